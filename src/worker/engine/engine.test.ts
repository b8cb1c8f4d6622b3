/** The life of a run in the engine, without a worker: a real model, real weights, the store in memory. */
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { config, EXTRAS, Harness, tokenRows } from '../../../test/engine.ts'
import { gpu } from '../../../test/gpu.ts'
import { describeShared, sharedPath } from '../../../test/shared.ts'
import { BUILTIN_TEMPLATES } from '../../data/template.ts'
import { memoryStore, type BlobStore } from '../../io/blob_store.ts'
import type { Replies, Sampling } from '../protocol.ts'

const GREEDY: Sampling = { temperature: 0, topK: 0, topP: 1, seed: 0, maxTokens: 24, stop: [] }
const ROWS = sharedPath('goldens', 'trajectories', 'stories260K-lora', 'data.jsonl')

async function modelFiles(): Promise<File[]> {
  const folder = sharedPath('models', 'stories260K')!
  const names = (await readdir(folder)).filter((n) => n !== 'golden.json')
  return Promise.all(names.map(async (n) => new File([await readFile(join(folder, n))], n)))
}
async function ready(store?: BlobStore): Promise<{ h: Harness; info: Replies['load-model'] }> {
  const h = new Harness(store ? { store } : {})
  await h.request('init', {})
  return { h, info: await h.request('load-model', { spec: { kind: 'files', files: await modelFiles() } }) }
}
const lora = (run = {}) => config('lora', { r: 4, alpha: 8, dropout: 0.1 }, run)
const rows = () => ({ train: tokenRows(ROWS!, 24), held: tokenRows(ROWS!, 30) })
const begin = (
  h: Harness,
  runId: string,
  o: { config?: ReturnType<typeof lora>; extras?: Partial<typeof EXTRAS>; paused?: boolean; fromAdapter?: boolean } = {},
) =>
  h.request('start', {
    runId,
    name: `run ${runId}`,
    config: o.config ?? lora(),
    extras: { ...EXTRAS, ...o.extras },
    dataName: 'rows.jsonl',
    ...rows(),
    paused: o.paused ?? false,
    fromAdapter: o.fromAdapter ?? false,
  })
const steps = (h: Harness, runId: string) => h.of('run-step').flatMap((e) => (e.runId === runId ? [e.record] : []))
const losses = (h: Harness, runId: string) => steps(h, runId).map((s) => [s.step, s.loss, s.grad_norm, s.lr, s.tokens])
const say = (h: Harness, which: 'base' | 'tuned', o: object = {}) =>
  h.request('generate', { prompt: 'Once upon a time', template: null, which, scale: 1, sampling: GREEDY, ...o })

describeShared('the engine with stories260K', ['models', 'stories260K'], () => {
  test('load, plan, train, pause, and in another engine restore and resume: as if never stopped, bit for bit', async () => {
    const whole = await ready()
    expect(whole.info).toMatchObject({
      name: 'model',
      family: 'llama',
      architecture: 'LlamaForCausalLM',
      layers: 5,
      vocabSize: 512,
      chatTemplate: null,
    })
    expect(whole.info.parameters).toBe(260032)
    expect(whole.info.fingerprint).toMatch(/^[0-9a-f]{64}$/)
    const before = gpu.allocatedBytes
    const plan = await whole.h.request('plan', { config: lora(), probe: false, rows: null })
    expect(gpu.allocatedBytes).toBe(before)
    expect(plan.refusal).toBeNull()
    expect(plan.trainable * 4).toBe(plan.adapterBytes)
    await begin(whole.h, 'a')
    const end = await whole.h.ended('a')
    expect(end).toMatchObject({ status: 'done', step: 6, checkpointStep: 6 })
    const reference = losses(whole.h, 'a')
    expect(reference.map(([s]) => s)).toEqual([1, 2, 3, 4, 5, 6])
    const evals = whole.h.of('run-eval').map((e) => [e.record.step, e.record.loss])
    expect(evals.map(([s]) => s)).toEqual([0, 3, 6])
    expect(evals[2][1]).toBeLessThan(evals[0][1])
    const wholeText = (await say(whole.h, 'tuned')).text
    await whole.h.request('delete-run', { runId: 'a' })

    const store = memoryStore()
    const first = await ready(store)
    await begin(first.h, 'b', { paused: true })
    await first.h.until((e) => e.type === 'run-status' && e.status === 'paused')
    await first.h.request('step', { runId: 'b' })
    await first.h.request('step', { runId: 'b' })
    expect(losses(first.h, 'b')).toEqual(reference.slice(0, 2))
    await first.h.request('step', { runId: 'b' })
    await first.h.request('load-model', { spec: { kind: 'files', files: await modelFiles() } })

    const second = await ready(store)
    const listed = await second.h.request('list-runs', {})
    expect(listed).toHaveLength(1)
    expect(listed[0]).toMatchObject({ runId: 'b', status: 'paused', step: 3, checkpointStep: 3 })
    expect(listed[0].steps.map((s) => [s.step, s.loss, s.grad_norm, s.lr, s.tokens])).toEqual(reference.slice(0, 3))
    const summary = await second.h.request('restore', { runId: 'b' })
    expect(summary.evals.map((e) => [e.step, e.loss])).toEqual(evals.slice(0, 2))
    await second.h.request('resume', { runId: 'b' })
    await second.h.ended('b')
    expect(losses(second.h, 'b')).toEqual(reference.slice(3))
    expect((await say(second.h, 'tuned')).text).toBe(wholeText)
    const after = await second.h.request('list-runs', {})
    expect(after[0].steps.map((s) => s.loss)).toEqual(reference.map(([, loss]) => loss))
    await first.h.request('delete-run', { runId: 'b' })
    await second.h.request('delete-run', { runId: 'b' })
    expect(await store.list('')).toEqual([])
  })

  test('a run that crashed past its checkpoint shows its chart and goes on from the checkpoint', async () => {
    const store = memoryStore()
    const { h } = await ready(store)
    await begin(h, 'c', { config: lora({ steps: 5 }), extras: { evalEvery: 0, checkpointEvery: 2 } })
    await h.ended('c')
    const reference = losses(h, 'c')
    // What the store held when the tab died: a journal up to step 3 with a line that is cut off, a checkpoint of step 2.
    const { h: crashed } = await ready(store)
    await begin(crashed, 'd', { config: lora({ steps: 5 }), extras: { evalEvery: 0, checkpointEvery: 2 } })
    await crashed.until((e) => e.type === 'run-status' && e.runId === 'd' && e.checkpointStep === 2)
    const checkpoint = await copy(store, 'runs/d/checkpoint.safetensors')
    const record = await copy(store, 'runs/d/run.json')
    await crashed.ended('d')
    await store.write('runs/d/checkpoint.safetensors', checkpoint)
    await store.write('runs/d/run.json', record)
    await store.append('runs/d/journal.jsonl', new TextEncoder().encode('{"step":{"step":6,"lo'))

    const { h: next } = await ready(store)
    const listed = (await next.request('list-runs', {})).find((r) => r.runId === 'd')!
    expect(listed).toMatchObject({ status: 'paused', step: 5, checkpointStep: 2 })
    await next.request('restore', { runId: 'd' })
    await next.request('resume', { runId: 'd' })
    await next.ended('d')
    expect(losses(next, 'd')).toEqual(reference.slice(2))
    expect((await next.request('list-runs', {})).find((r) => r.runId === 'd')!.steps.map((s) => s.step)).toEqual([1, 2, 3, 4, 5])
    for (const each of [h, crashed, next]) for (const runId of ['c', 'd']) await each.request('delete-run', { runId })
  })

  test.each(['adamw_8bit', 'adamw_coat'] as const)('%s: moments in 8 bits survive the store, bit for bit', async (optim) => {
    const full = config('full', {}, { steps: 4, lr: 1e-3, optim })
    const whole = await ready()
    await begin(whole.h, 'm', { config: full, extras: { evalEvery: 0 } })
    await whole.h.ended('m')
    const store = memoryStore()
    const first = await ready(store)
    await begin(first.h, 'n', { config: full, extras: { evalEvery: 0 }, paused: true })
    await first.h.until((e) => e.type === 'run-status' && e.status === 'paused')
    for (let i = 0; i < 2; i++) await first.h.request('step', { runId: 'n' })
    await first.h.engine.close()
    const second = await ready(store)
    await second.h.request('restore', { runId: 'n' })
    await second.h.request('resume', { runId: 'n' })
    await second.h.ended('n')
    expect([...losses(first.h, 'n'), ...losses(second.h, 'n')]).toEqual(losses(whole.h, 'm'))
    await whole.h.engine.close()
    await second.h.engine.close()
  })

  test('samples and the playground are written with the template that rows were written with', async () => {
    const { h } = await ready()
    const extras = { samplePrompts: ['Once upon a time'], sampleEvery: 3, sampleTemplate: BUILTIN_TEMPLATES.chatml }
    await begin(h, 't', { config: lora(), extras })
    await h.ended('t')
    const [first] = h.of('run-sample').map((e) => e.record.text)
    const asked = await say(h, 'base', { template: BUILTIN_TEMPLATES.chatml })
    expect(asked.text.startsWith(first)).toBe(true)
    expect((await say(h, 'base')).text).not.toBe(asked.text)
    await begin(h, 'p', { config: lora(), extras: { ...extras, sampleTemplate: null } })
    await h.ended('p')
    const plain = h.of('run-sample').filter((e) => e.runId === 'p')[0].record.text
    expect((await say(h, 'base')).text.startsWith(plain)).toBe(true)
    await h.engine.close()
  })

  test('tuned differs from base; strength 0 is base; export loads back; its zip goes on training; nothing is left on the GPU', async () => {
    const start = gpu.allocatedBytes
    const { h } = await ready()
    await begin(h, 'e', { config: lora({ lr: 3e-2 }), extras: { samplePrompts: ['Once upon a time'], sampleEvery: 3 } })
    await h.ended('e')
    const samples = h.of('run-sample').map((e) => e.record)
    expect(samples.map((s) => s.step)).toEqual([0, 3, 6])
    const base = await say(h, 'base')
    const tuned = await say(h, 'tuned')
    expect(base.text.startsWith(samples[0].text)).toBe(true)
    expect(tuned.text.startsWith(samples[2].text)).toBe(true)
    expect(tuned.text).not.toBe(base.text)
    expect((await say(h, 'tuned', { scale: 0 })).text).toBe(base.text)
    await say(h, 'tuned', { scale: 1.5 })
    expect((await say(h, 'tuned', { scale: 1 })).text).toBe(tuned.text)
    const tokens = h.of('token').map((e) => e.text)
    expect(tokens.join('')).toContain(base.text)

    await say(h, 'tuned', { scale: 0.5 })
    const adapter = await h.request('export', { what: 'adapter', runId: 'e' })
    const merged = await h.request('export', { what: 'merged', runId: 'e' })
    console.log(`export check: adapter ${adapter.check.maxAbsDiff}, merged ${merged.check.maxAbsDiff}`)
    expect(adapter.check.maxAbsDiff).toBeLessThan(1e-4)
    expect(merged.check.maxAbsDiff).toBeLessThan(1e-3)
    await h.request('delete-run', { runId: 'e' })

    const zip = new File([adapter.file.blob], adapter.file.name)
    const open = await h.request('load-adapter', { files: [zip] })
    expect(open).toMatchObject({ method: 'lora' })
    expect((await say(h, 'tuned', { runId: null })).text).toBe(tuned.text)
    await begin(h, 'f', { config: config('lora', open.options, { steps: 2, lr: 1e-3 }), fromAdapter: true })
    await h.ended('f')
    expect(steps(h, 'f')[0].loss).toBeLessThan(h.of('run-eval').find((e) => e.runId === 'e')!.record.loss)

    const model = await h.request('load-model', { spec: { kind: 'files', files: [new File([merged.file.blob], merged.file.name)] } })
    expect(model.parameters).toBe(260032)
    expect((await say(h, 'base')).text).toBe(tuned.text)
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(start)
  })

  test.each([
    ['full', {}],
    ['lora', { r: 4, alpha: 4, init_lora_weights: 'pissa' }],
    ['prompt-tuning', { num_virtual_tokens: 4 }],
    ['ia3', {}],
  ])('%s %o: trains, tells base from tuned, exports what loads back, leaves nothing on the GPU', async (method, options) => {
    const start = gpu.allocatedBytes
    const { h } = await ready()
    await begin(h, 'g', { config: config(method, options, { steps: 8, lr: method === 'full' ? 3e-3 : 0.3 }), extras: { evalEvery: 0 } })
    expect(await h.ended('g')).toMatchObject({ status: 'done' })
    const base = await say(h, 'base')
    const tuned = await say(h, 'tuned')
    expect(tuned.text).not.toBe(base.text)
    if (method === 'lora') expect((await say(h, 'tuned', { scale: 2 })).text).not.toBe(base.text)
    const what = method === 'full' ? 'merged' : 'adapter'
    const { check } = await h.request('export', { what, runId: 'g' })
    console.log(`export check of ${method}: ${check.maxAbsDiff}`)
    expect(check.maxAbsDiff).toBeLessThan(1e-3)
    await expect(
      h.request('export', {
        what: method === 'full' ? 'adapter' : 'merged',
        runId: method === 'prompt-tuning' || method === 'full' ? 'g' : 'none',
      }),
    ).rejects.toThrow(/RunError/)
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(start)
  })
})

async function copy(store: BlobStore, key: string): Promise<Uint8Array<ArrayBuffer>> {
  const source = (await store.read(key))!
  return source.read(0, source.size)
}
