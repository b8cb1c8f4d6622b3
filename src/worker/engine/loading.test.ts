/** Loading weights for a run, a probe or text: it can be called off as if it had not begun, and takes what was planned. */
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { config, EXTRAS, Harness, Refused, tokenRows } from '../../../test/engine.ts'
import { gpu } from '../../../test/gpu.ts'
import { describeShared, sharedPath } from '../../../test/shared.ts'
import { BUILTIN_TEMPLATES } from '../../data/template.ts'
import { memoryStore } from '../../io/blob_store.ts'
import type { RunConfig, RunExtras } from '../../train/run_config.ts'

const ROWS = sharedPath('goldens', 'trajectories', 'stories260K-lora', 'data.jsonl')
const SAMPLING = { temperature: 0, topK: 0, topP: 1, seed: 0, maxTokens: 8, stop: [] }
const lora = (run: Partial<RunConfig['run']> = {}) => config('lora', { r: 4, alpha: 8 }, { steps: 2, ...run })
const start = (runId: string, c = lora(), extras: Partial<RunExtras> = {}, fromAdapter = false) => ({
  runId,
  name: runId,
  config: c,
  extras: { ...EXTRAS, evalEvery: 0, ...extras },
  dataName: 'rows.jsonl',
  train: tokenRows(ROWS!, 8),
  held: null,
  paused: true,
  fromAdapter,
})
const generate = (which: 'base' | 'tuned', runId: string | null = null) => ({
  prompt: 'The dog',
  template: null,
  which,
  runId,
  scale: 1,
  sampling: SAMPLING,
})
const refused = (e: unknown): string => (e instanceof Refused ? e.wire.name : String(e))

describeShared('loading stories260K', ['models', 'stories260K'], (folder) => {
  /** An engine with the model open. `onRead` hears of each read of its files from then on. */
  async function ready({
    onRead = () => undefined,
    ...deps
  }: ConstructorParameters<typeof Harness>[0] & { onRead?: (h: Harness) => void } = {}): Promise<Harness> {
    const h = new Harness(deps)
    let opened = false
    const names = (await readdir(folder)).filter((n) => n !== 'golden.json')
    const files = await Promise.all(
      names.map(async (n) => {
        const f = new File([await readFile(join(folder, n))], n)
        const slice = f.slice.bind(f)
        f.slice = (from?: number, to?: number) => {
          if (opened) onRead(h)
          return slice(from, to)
        }
        return f
      }),
    )
    await h.request('init', {})
    await h.request('load-model', { spec: { kind: 'files', files } })
    opened = true
    return h
  }
  const paused = (h: Harness, runId: string) => h.until((e) => e.type === 'run-status' && e.runId === runId && e.status === 'paused')

  /** An engine whose next loading is called off at its third read. */
  async function interrupted(store = memoryStore()) {
    let reads = 0
    let open = -1
    const h = await ready({
      store,
      onRead: (it) => {
        if (++reads === 3 && open >= 0) it.cancel(open)
      },
    })
    const tracked = (id: number): void => {
      reads = 0
      open = id
    }
    return { h, store, tracked, reads: () => reads }
  }

  test.each([
    ['start', (h: Harness, begun: (id: number) => void) => h.request('start', start('a'), begun)],
    [
      'start of a full fine-tuning',
      (h: Harness, begun: (id: number) => void) => h.request('start', start('a', config('full', {}, {})), begun),
    ],
    [
      'probe',
      (h: Harness, begun: (id: number) => void) => h.request('plan', { config: lora(), probe: true, rows: tokenRows(ROWS!, 8) }, begun),
    ],
  ])('a %s that is cancelled while weights are read: nothing on the GPU, nothing stored, and it works the second time', async (_, ask) => {
    const { h, store, tracked, reads } = await interrupted()
    const before = gpu.allocatedBytes
    expect(await ask(h, tracked).catch(refused)).toBe('AbortError')
    expect(reads()).toBe(3)
    expect(gpu.allocatedBytes).toBe(before)
    expect(await store.list('')).toEqual([])
    expect(h.of('run-status')).toEqual([])
    await ask(h, () => undefined)
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(before)
  })

  test('a start that is cancelled as its run is stored: nothing of it is kept, and weights stay only where they were there before', async () => {
    const store = memoryStore()
    const write = store.write
    let id = 0
    let cancel = true
    const h = await ready({ store })
    store.write = async (key, data) => {
      if (cancel) h.cancel(id)
      return write(key, data)
    }
    const begin = () => h.request('start', start('a'), (n) => (id = n)).catch(refused)
    const empty = gpu.allocatedBytes
    expect(await begin()).toBe('AbortError')
    expect(gpu.allocatedBytes).toBe(empty)
    await h.request('generate', generate('base'))
    const loaded = gpu.allocatedBytes
    expect(await begin()).toBe('AbortError')
    expect(gpu.allocatedBytes).toBeGreaterThan(empty)
    expect(gpu.allocatedBytes).toBeLessThanOrEqual(loaded)
    expect(await store.list('')).toEqual([])
    cancel = false
    expect(await begin()).toBeNull()
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(empty)
  })

  test('a cancelled restore leaves the stored run as it was; text that is cancelled while weights are read was never begun', async () => {
    const store = memoryStore()
    const first = await ready({ store })
    await first.request('start', start('r'))
    await paused(first, 'r')
    await first.request('step', { runId: 'r' })
    await first.engine.close()

    const { h, tracked } = await interrupted(store)
    const before = gpu.allocatedBytes
    const files = (await store.list('')).map((f) => `${f.key} ${f.size}`)
    expect(await h.request('restore', { runId: 'r' }, tracked).catch(refused)).toBe('AbortError')
    expect(gpu.allocatedBytes).toBe(before)
    expect((await store.list('')).map((f) => `${f.key} ${f.size}`)).toEqual(files)
    expect(await h.request('generate', generate('base'), tracked)).toMatchObject({ text: '', tokens: 0, stopped: 'cancelled' })
    expect(gpu.allocatedBytes).toBe(before)
    expect(await h.request('restore', { runId: 'r' })).toMatchObject({ step: 1, checkpointStep: 1 })
    expect((await h.request('generate', generate('tuned', 'r'))).tokens).toBeGreaterThan(0)
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(before)
  })

  test.each([
    ['no prompt', lora(), {}],
    ['a prompt', lora(), { samplePrompts: ['The dog'], sampleEvery: 1 }],
    [
      'prompts on both sides of a chat template',
      lora({ policy: 'lean' }),
      { samplePrompts: ['a', 'Once upon a time'], sampleTemplate: BUILTIN_TEMPLATES.chatml },
    ],
    [
      'a prompt and a trained one',
      config('prompt-tuning', { num_virtual_tokens: 250 }, { steps: 2 }),
      { samplePrompts: ['The dog'], sampleTokens: 16 },
    ],
    ['a prompt and every weight trained', config('full', {}, { steps: 2, lr: 1e-3 }), { samplePrompts: ['The dog'] }],
  ])('what a run with %s takes is what was planned, to the byte, before its first step and after its last', async (_, c, extras) => {
    const before = gpu.allocatedBytes
    const h = await ready()
    // What is there for other purposes makes room.
    await h.request('generate', generate('base'))
    const all = { ...EXTRAS, evalEvery: 0, ...extras }
    const { memory, policies } = await h.request('plan', { config: c, extras: all, probe: false, rows: null, compare: true })
    const { total, ...classes } = memory
    expect(Object.values(classes).reduce((a, b) => a + b, 0)).toBe(total)
    expect(policies.map((p) => p.total)).toContain(total)
    expect(memory.samples > 0).toBe('samplePrompts' in extras)
    await h.request('start', start('p', c, extras))
    await paused(h, 'p')
    expect(h.of('run-status').at(-1)!.allocatedBytes - before).toBe(total)
    await h.request('resume', { runId: 'p' })
    expect(await h.ended('p')).toMatchObject({ status: 'done', allocatedBytes: before + total })
    expect(h.of('run-sample').length).toBe(('samplePrompts' in extras ? extras.samplePrompts.length : 0) * (all.sampleEvery > 0 ? 3 : 2))
    await h.engine.close()
    expect(gpu.allocatedBytes).toBe(before)
  })

  test('where watched prompts are what is too much, the plan says that it fits without them', async () => {
    const h = await ready({ budget: () => budget })
    const extras = { ...EXTRAS, samplePrompts: ['Once upon a time'], sampleTokens: 400 }
    const plan = () => h.request('plan', { config: lora({ batch: 1, seq: 32, policy: 'lean' }), extras, probe: false, rows: null })
    let budget = Infinity
    const { memory, refusal } = await plan()
    expect(refusal).toBeNull()
    budget = memory.total - memory.samples
    expect((await plan()).refusal).toMatchObject({ name: 'GpuError', fix: expect.stringMatching(/watch no prompts$/) as string })
    await h.engine.close()
  })
})
