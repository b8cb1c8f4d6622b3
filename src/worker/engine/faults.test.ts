/** What goes wrong in the engine: each is said so that a person can act on it, and what was reached is kept. */
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { config, EXTRAS, Harness, Refused, tokenRows } from '../../../test/engine.ts'
import { gpu } from '../../../test/gpu.ts'
import { describeShared, sharedPath } from '../../../test/shared.ts'
import { GpuError, type WireError } from '../../errors.ts'
import { Gpu } from '../../gpu/device.ts'
import { memoryStore } from '../../io/blob_store.ts'

const FOLDER = sharedPath('models', 'stories260K')
const ROWS = sharedPath('goldens', 'trajectories', 'stories260K-lora', 'data.jsonl')
async function modelFiles(change: (name: string, bytes: Uint8Array<ArrayBuffer>) => void = () => undefined): Promise<File[]> {
  const names = (await readdir(FOLDER!)).filter((n) => n !== 'golden.json')
  return Promise.all(
    names.map(async (n) => {
      const bytes = new Uint8Array(await readFile(join(FOLDER!, n)))
      change(n, bytes)
      return new File([bytes], n)
    }),
  )
}
const lora = (run = {}) => config('lora', { r: 4, alpha: 8 }, run)
const begin = (h: Harness, runId: string, run = {}, extras = {}) =>
  h.request('start', {
    runId,
    name: runId,
    config: lora(run),
    extras: { ...EXTRAS, ...extras },
    dataName: 'rows.jsonl',
    train: tokenRows(ROWS!, 24),
    held: null,
    paused: false,
    fromAdapter: false,
  })
async function ready(deps: ConstructorParameters<typeof Harness>[0] = {}): Promise<Harness> {
  const h = new Harness(deps)
  await h.request('init', {})
  await h.request('load-model', { spec: { kind: 'files', files: await modelFiles() } })
  return h
}
const refusal = async (p: Promise<unknown>): Promise<WireError> => {
  const e = await p.then(
    () => null,
    (e: unknown) => e,
  )
  if (e instanceof Refused) return e.wire
  throw new Error(`expected a refusal, got ${String(e)}`)
}

describe('without a GPU', () => {
  test('no WebGPU: init says so and what to do; everything else says the GPU is not there', async () => {
    const h = new Harness({ requestGpu: () => Gpu.request(undefined) })
    const e = await refusal(h.request('init', {}))
    expect(e).toMatchObject({ name: 'GpuError', what: 'WebGPU is not available here' })
    expect(e.fix).toContain('Chrome')
    expect((await refusal(h.request('load-model', { spec: { kind: 'starter' } }))).name).toBe('GpuError')
    expect(await h.request('list-runs', {})).toEqual([])
  })
  test('a device below what training needs is named with its figures', async () => {
    const limits = { maxStorageBuffersPerShaderStage: 4, maxComputeInvocationsPerWorkgroup: 128 }
    const small = {
      wgslLanguageFeatures: new Set(),
      requestAdapter: async () => ({ limits, features: new Set(), info: { vendor: '', architecture: '', description: '', device: '' } }),
    }
    const h = new Harness({ requestGpu: () => Gpu.request(small as unknown as GPU) })
    expect((await refusal(h.request('init', {}))).what).toMatch(/4 storage buffers.*128 invocations/)
  })
})

test('commands before a model is there, and for runs that are not', async () => {
  const h = new Harness()
  await h.request('init', {})
  expect(await refusal(h.request('plan', { config: lora(), probe: false, rows: null }))).toMatchObject({
    name: 'ModelError',
    what: 'no model is loaded',
  })
  expect((await refusal(h.request('resume', { runId: 'x' }))).name).toBe('ModelError')
  expect((await refusal(h.request('pause', { runId: 'x' }))).what).toContain('does not hold this run')
  const offline = await refusal(h.request('load-model', { spec: { kind: 'starter' } }))
  expect(offline).toMatchObject({ name: 'FileError', where: 'config.json' })
  await h.engine.close()
})

describeShared('faults with stories260K', ['models', 'stories260K'], () => {
  test('a load that is cancelled leaves the model that was there, and nothing on the GPU', async () => {
    const h = await ready()
    const before = gpu.allocatedBytes
    let reads = 0
    const files = await modelFiles()
    for (const f of files) {
      const slice = f.slice.bind(f)
      f.slice = (a?: number, b?: number) => {
        if (++reads === 3) h.cancel(3)
        return slice(a, b)
      }
    }
    const e = await refusal(h.request('load-model', { spec: { kind: 'files', files } }, (id) => expect(id).toBe(3)))
    expect(e.name).toBe('AbortError')
    expect(gpu.allocatedBytes).toBe(before)
    expect((await h.request('plan', { config: lora(), probe: false, rows: null })).refusal).toBeNull()
    await h.engine.close()
  })

  test('a broken model file is refused, and the model that was there stays', async () => {
    const h = await ready()
    const files = await modelFiles((name, b) => {
      if (name === 'model.safetensors') b.fill(255, 0, 8)
    })
    expect(await refusal(h.request('load-model', { spec: { kind: 'files', files } }))).toMatchObject({
      name: 'FileError',
      where: 'model.safetensors',
    })
    expect((await h.request('plan', { config: lora(), probe: false, rows: null })).trainable).toBeGreaterThan(0)
    await h.engine.close()
  })

  test('NaN among the weights is found when they are read, with the tensor named; nothing stays on the GPU', async () => {
    const start = gpu.allocatedBytes
    const h = new Harness()
    await h.request('init', {})
    const files = await modelFiles((name, b) => {
      if (name === 'model.safetensors') b.fill(255, b.length - 4)
    })
    await h.request('load-model', { spec: { kind: 'files', files } })
    const e = await refusal(begin(h, 'nan'))
    expect(e).toMatchObject({ name: 'ModelError', what: expect.stringContaining('NaN') as string })
    expect(e.where).toContain('tensor')
    expect(gpu.allocatedBytes).toBe(start)
    expect(await h.request('list-runs', {})).toEqual([])
    await h.engine.close()
  })

  test('a loss that is not finite fails the run at its step; the steps before and a checkpoint are kept', async () => {
    const h = await ready()
    await begin(h, 'hot', { lr: 100, clip: 0, steps: 40, weight_decay: 10 })
    await h.ended('hot')
    const said = h.of('error').find((e) => e.runId === 'hot')!.error
    expect(said).toMatchObject({ name: 'RunError', what: expect.stringContaining('not finite') as string })
    expect(said.fix).toContain('learning rate')
    const [stored] = await h.request('list-runs', {})
    expect(stored).toMatchObject({ status: 'failed', error: { name: 'RunError' } })
    expect(stored.checkpointStep).toBe(stored.steps.length)
    await h.request('export', { what: 'adapter', runId: 'hot' }).catch((e: unknown) => expect(e).toBeInstanceOf(Refused))
    await h.engine.close()
  })

  test('a device that is lost in mid-run: the run is failed with its chart and checkpoint, and goes on after init', async () => {
    const store = memoryStore()
    const own = await Gpu.request(globalThis.testGpu)
    let lose: (e: GpuError) => void = () => undefined
    Object.defineProperty(own, 'lost', { value: new Promise<GpuError>((resolve) => (lose = resolve)) })
    const devices = [own, gpu]
    const h = await ready({ store, requestGpu: () => Promise.resolve(devices.shift()!) })
    await begin(h, 'lost', { steps: 1000 }, { checkpointEvery: 2, evalEvery: 0 })
    await h.until((e) => e.type === 'run-step' && e.record.step === 3)
    lose(new GpuError('the GPU device was lost (driver reset)'))
    await h.until((e) => e.type === 'device-lost')
    own.destroy()
    const [stored] = await h.request('list-runs', {})
    expect(stored).toMatchObject({ status: 'failed', error: { name: 'GpuError' } })
    expect(stored.checkpointStep).toBeGreaterThanOrEqual(2)
    expect(stored.steps.length).toBeGreaterThanOrEqual(3)
    expect(await refusal(h.request('resume', { runId: 'lost' }))).toMatchObject({ name: 'GpuError' })
    const before = gpu.allocatedBytes
    await h.request('init', {})
    const summary = await h.request('restore', { runId: 'lost' })
    expect(summary.checkpointStep).toBe(stored.checkpointStep)
    await h.request('step', { runId: 'lost' })
    expect(h.of('run-step').at(-1)!.record.step).toBe(stored.checkpointStep + 1)
    await h.request('delete-run', { runId: 'lost' })
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(before)
  })

  test.each([
    ['the weights', 1],
    ['the trainer', 2],
  ])('the GPU refuses memory for %s: said so, nothing is stored or left, and a second try works', async (_, nth) => {
    const own = await Gpu.request(globalThis.testGpu)
    const pop = own.device.popErrorScope.bind(own.device)
    const h = await ready({ device: own })
    let calls = 0
    own.device.popErrorScope = async () => {
      const real = await pop()
      return ++calls === nth ? new GPUOutOfMemoryError('not enough memory left') : real
    }
    const e = await refusal(begin(h, 'full', { steps: 1 }))
    expect(e).toMatchObject({ name: 'GpuError', why: 'not enough memory left' })
    expect(e.what).toMatch(/no room for|rejected this run/)
    expect(e.fix).toBeTruthy()
    expect(await h.request('list-runs', {})).toEqual([])
    own.device.popErrorScope = pop
    await begin(h, 'again', { steps: 1 }, { evalEvery: 0 })
    expect(await h.ended('again')).toMatchObject({ status: 'done' })
    await h.engine.close()
    expect(own.allocatedBytes).toBe(0)
    own.destroy()
  })

  test('a store that is full: the run says so and stops, what is trained can still be exported', async () => {
    const h = await ready({ store: memoryStore(120_000) })
    await begin(h, 'disk', { steps: 4 }, { evalEvery: 0, checkpointEvery: 2 })
    await h.ended('disk')
    const said = h.of('error').find((e) => e.runId === 'disk')!.error
    expect(said).toMatchObject({ name: 'FileError', what: 'There is no room left to store it' })
    expect((await h.request('export', { what: 'adapter', runId: 'disk' })).check.maxAbsDiff).toBeLessThan(1e-4)
    await h.engine.close()
  })

  test('a run that another tab holds is left to it', async () => {
    const store = memoryStore()
    const h = await ready({ store })
    await begin(h, 'theirs', { steps: 1 }, { evalEvery: 0 })
    await h.ended('theirs')
    const other = await ready({ store, claim: () => Promise.resolve(null) })
    expect((await refusal(other.request('restore', { runId: 'theirs' }))).what).toContain('another tab')
    expect((await refusal(other.request('delete-run', { runId: 'theirs' }))).what).toContain('another tab')
    await other.engine.close()
    await h.engine.close()
  })

  test('a stored run is not put on another model', async () => {
    const store = memoryStore()
    const h = await ready({ store })
    await begin(h, 'mine', { steps: 2 }, { evalEvery: 0 })
    await h.ended('mine')
    // The fingerprint samples the middle of each tensor: change all of the last one.
    const other = await modelFiles((name, b) => {
      if (name === 'model.safetensors') for (let i = b.length - 4 * 64; i < b.length; i += 4) b[i] ^= 1
    })
    await h.request('load-model', { spec: { kind: 'files', files: other } })
    const e = await refusal(h.request('restore', { runId: 'mine' }))
    expect(e).toMatchObject({ name: 'ModelError', where: 'mine' })
    expect(e.what).toContain('belongs to')
    await h.engine.close()
  })

  test('what cannot fit is refused with a change that was planned again and does', async () => {
    const big = lora({ batch: 16, seq: 128, steps: 1, policy: 'fast' })
    const whole = await ready()
    const { memory } = await whole.request('plan', { config: big, probe: false, rows: null })
    await whole.engine.close()
    const h = await ready({ budget: () => Math.floor(memory.total * 0.75) })
    const { refusal: no } = await h.request('plan', { config: big, probe: false, rows: null })
    expect(no).toMatchObject({ name: 'GpuError', where: 'GPU memory' })
    const change = /batch (\d+) with accumulation (\d+)|keep the fewest activations/.exec(no!.fix!)!
    const run = change[1] ? { batch: Number(change[1]), accum: Number(change[2]) } : { policy: 'lean' as const }
    expect((await h.request('plan', { config: lora({ ...big.run, ...run }), probe: false, rows: null })).refusal).toBeNull()
    const chosen = await h.request('plan', { config: lora({ ...big.run, policy: 'auto' }), probe: false, rows: null })
    expect(chosen.refusal).toBeNull()
    expect(chosen.policy).not.toBe('fast')
    const tiny = await ready({ budget: () => 1000 })
    expect((await tiny.request('plan', { config: big, probe: false, rows: null })).refusal!.fix).toContain('smaller')
    expect((await refusal(begin(tiny, 'no'))).name).toBe('GpuError')
    await h.engine.close()
    await tiny.engine.close()
  })

  test('rows of another vocabulary, adapters of another model, options that are none', async () => {
    const h = await ready()
    const train = tokenRows(ROWS!, 4)
    train.ids[70] = 99999
    const fields = {
      runId: 'v',
      name: 'v',
      config: lora(),
      extras: EXTRAS,
      dataName: 'd',
      train,
      held: null,
      paused: false,
      fromAdapter: false,
    }
    expect(await refusal(h.request('start', fields))).toMatchObject({ name: 'RunError', where: 'training data, row 2' })
    expect((await refusal(h.request('plan', { config: config('lora', { r: 0 }, {}), probe: false, rows: null }))).name).toBe('OptionError')
    expect((await refusal(h.request('plan', { config: config('none', {}, {}), probe: false, rows: null }))).name).toBe('OptionError')
    expect((await refusal(h.request('load-adapter', { files: [new File(['x'], 'a.gguf')] }))).name).toBe('FileError')
    expect((await refusal(h.request('start', { ...fields, train: tokenRows(ROWS!, 4), fromAdapter: true }))).name).toBe('AdapterError')
    await h.engine.close()
  })

  test('a probe measures a step and leaves nothing behind', async () => {
    const start = gpu.allocatedBytes
    const h = await ready()
    const plan = await h.request('plan', { config: lora(), probe: true, rows: tokenRows(ROWS!, 8) })
    expect(plan.msPerStep).toBeGreaterThan(0)
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(start)
  })

  test('generation that is cancelled answers with what it has; while a run works it comes between steps', async () => {
    const h = await ready()
    await begin(h, 'busy', { steps: 30 }, { evalEvery: 0 })
    await h.until((e) => e.type === 'run-step')
    const sampling = { temperature: 0.8, topK: 20, topP: 0.9, seed: 1, maxTokens: 200, stop: [] }
    let id = 0
    const p = h.request('generate', { prompt: 'The dog', template: null, which: 'tuned', scale: 1, sampling }, (n) => (id = n))
    await h.until((e) => e.type === 'token')
    h.cancel(id)
    const got = await p
    expect(got.stopped).toBe('cancelled')
    expect(got.tokens).toBeLessThan(200)
    expect(got.text).toBe(
      h
        .of('token')
        .map((e) => e.text)
        .join(''),
    )
    await h.request('stop', { runId: 'busy' })
    expect(h.of('run-status').at(-1)).toMatchObject({ status: 'stopped' })
    const ended = await h.request('generate', {
      prompt: 'The dog',
      template: null,
      which: 'base',
      scale: 1,
      sampling: { ...sampling, temperature: 0, stop: ['.'] },
    })
    expect(ended.stopped).toBe('stop')
    expect(ended.text).not.toContain('.')
    await h.engine.close()
  })
})
