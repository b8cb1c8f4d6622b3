/** Runs over small random Llamas on the real device. What must be equal is equal to the bit, except sums in another order (accumulation), whose
 * tolerance is float32's: 1e-5 relative. */
import { afterEach, describe, expect, test } from 'vitest'
import { gpu, relative } from '../../test/gpu.ts'
import { onGpu, RUN, tinyBundle, tinyRows } from '../../test/tiny.ts'
import { BatchSource } from '../data/collate.ts'
import type { TokenRows } from '../data/types.ts'
import { RunError } from '../errors.ts'
import type { Json } from '../peft/method.ts'
import { type Checkpoint, NO_EXTRAS, run, type RunEvent, type RunInput } from './run.ts'
import type { Optimizer } from './run_config.ts'
import { RunControl } from './run_control.ts'
import { Trainer, type TrainerOptions } from './trainer.ts'
import { findMethod } from './tunable.ts'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const c of cleanups.splice(0)) c()
})

interface Setup {
  readonly method?: string
  readonly options?: Json
  readonly run?: Partial<TrainerOptions>
  readonly accum?: number
  readonly data?: TokenRows
  readonly optim?: Optimizer
}
/** A fresh model, adapter, trainer and data order: always the same for the same arguments. */
async function fresh({ method = 'lora', options = {}, run: o = {}, accum = 1, data = tinyRows(), optim = 'adamw' }: Setup = {}) {
  const bundle = await tinyBundle()
  const t = await onGpu(bundle, findMethod(method), options, { optim })
  const trainer = await Trainer.create(gpu, t, { ...RUN, ...o })
  cleanups.push(() => {
    trainer.destroy()
    t.destroy()
  })
  const source = new BatchSource(data, {
    batch: trainer.o.batch,
    seq: trainer.o.seq,
    accum,
    seed: trainer.o.seed,
    shuffle: true,
    pack: false,
  })
  return { t, trainer, source }
}
const values = async (t: Awaited<ReturnType<typeof fresh>>['t']) =>
  [...(await t.trained!.read())].map(([k, { data }]) => [k, Array.from(data)])
async function collect(input: RunInput, each: (e: RunEvent) => void = () => undefined): Promise<RunEvent[]> {
  const events: RunEvent[] = []
  for await (const e of run(input)) {
    events.push(e)
    each(e)
  }
  return events
}
const losses = (events: readonly RunEvent[]) =>
  events.flatMap((e) => (e.type === 'step' ? [[e.record.step, e.record.loss, e.record.grad_norm, e.record.lr]] : []))
const kinds = (events: readonly RunEvent[]) =>
  events.map((e) =>
    e.type === 'eval' || e.type === 'sample' || e.type === 'step'
      ? `${e.type} ${e.record.step}`
      : e.type === 'done'
        ? `done ${e.reason}`
        : `${e.type === 'status' ? e.status : e.type} ${e.step}`,
  )

describe('resuming', () => {
  const setups: [string, Setup][] = [
    [
      'LoRA with dropout, accumulation and a cosine',
      { options: { r: 4, dropout: 0.3 }, accum: 2, run: { batch: 2, steps: 8, warmup: 2, schedule: 'cosine', lr: 1e-2 } },
    ],
    ['DoRA', { method: 'dora', options: { r: 2 }, run: { steps: 8 } }],
    ['(IA)³', { method: 'ia3', run: { steps: 8, lr: 1e-2 } }],
    ['prompt tuning', { method: 'prompt-tuning', options: { num_virtual_tokens: 3 }, run: { steps: 8 } }],
    ['every weight', { method: 'full', run: { steps: 8, weight_decay: 0.1 } }],
    ['every weight, 8-bit moments', { method: 'full', optim: 'adamw_8bit', run: { steps: 8, weight_decay: 0.1 } }],
    ['every weight, expanded 8-bit moments', { method: 'full', optim: 'adamw_coat', run: { steps: 8 } }],
  ]
  test.each(setups)('%s: from a checkpoint it is the uninterrupted run to the bit, with the chart so far', async (_, setup) => {
    const whole = await fresh(setup)
    const extras = { ...NO_EXTRAS, evalEvery: 2, checkpointEvery: 3 }
    const held = tinyRows({ rows: 3 })
    const saved: Checkpoint[] = []
    const save = (c: Checkpoint) => Promise.resolve(void saved.push(structuredClone(c)))
    const events = await collect({ ...whole, held, extras, save })
    expect(saved.map((c) => c.state.step)).toEqual([3, 6, 8])
    const want = await values(whole.t)

    const again = await fresh(setup)
    const later: Checkpoint[] = []
    const rest = await collect({
      ...again,
      held,
      extras,
      from: saved[0],
      save: (c) => Promise.resolve(void later.push(structuredClone(c))),
    })
    expect(losses(rest)).toEqual(losses(events).slice(3))
    expect(await values(again.t)).toEqual(want)
    const { records } = later.at(-1)!
    expect(records.steps.map((s) => s.loss)).toEqual(losses(events).map(([, loss]) => loss))
    expect(records.evals).toEqual(saved.at(-1)!.records.evals)
    expect(later.at(-1)!.cursor).toEqual(saved.at(-1)!.cursor)
  })

  test('a checkpoint of another run is refused', async () => {
    const one = await fresh({ options: { r: 2 }, run: { steps: 2 } })
    const other = await fresh({ options: { r: 4 }, run: { steps: 2 } })
    const state = await one.trainer.state()
    const from: Checkpoint = { state, cursor: { epoch: 0, index: 0 }, records: { steps: [], evals: [], samples: [] }, best: null }
    await expect(collect({ ...other, held: null, extras: NO_EXTRAS, from })).rejects.toThrow(/another run/)
  })
})

test('the same seed is the same run, another seed is not', async () => {
  const go = async (seed: number) => {
    const f = await fresh({ options: { dropout: 0.2 }, run: { steps: 4, seed } })
    return [losses(await collect({ ...f, held: null, extras: NO_EXTRAS })), await values(f.t)]
  }
  expect(await go(0)).toEqual(await go(0))
  expect(await go(1)).not.toEqual(await go(0))
})

test('eight micro-batches of one are one of eight: loss, gradient norm, gradient, and the values after three steps', async () => {
  // Rows of different lengths, so that a mean of means would be wrong.
  const lengths = [4, 15, 7, 12, 3, 9, 16, 5]
  const full = tinyRows({ rows: 8, length: 16 })
  const pieces = lengths.map((n, r) => [16 * r, 16 * r + n] as const)
  const pick = (a: Int32Array) => Int32Array.from(pieces.flatMap(([from, to]) => [...a.subarray(from, to)]))
  const data = {
    ids: pick(full.ids),
    labels: pick(full.labels),
    offsets: Uint32Array.from([0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b))]),
  }
  const go = async (batch: number, accum: number) => {
    const f = await fresh({
      data,
      accum,
      run: { batch, steps: 3, lr: 1e-2, weight_decay: 0.01 },
      options: { init_lora_weights: 'gaussian' },
    })
    const records = losses(await collect({ ...f, held: null, extras: NO_EXTRAS }))
    const after = new Float32Array((await f.t.trained!.arenas[0].param.read()).slice(0))
    // First moments after three steps are sums of the gradients.
    const m = new Float32Array(await f.t.trained!.arenas[0].training!.m.read())
    return { records, after, m }
  }
  const eight = await go(1, 8)
  const one = await go(8, 1)
  eight.records.forEach(([, loss, norm], i) => {
    expect(Math.abs(loss / one.records[i][1] - 1)).toBeLessThan(1e-5)
    expect(Math.abs(norm / one.records[i][2] - 1)).toBeLessThan(1e-5)
  })
  expect(relative(eight.m, one.m)).toBeLessThan(1e-5)
  expect(relative(eight.after, one.after)).toBeLessThan(1e-4)
})

describe('evaluation and samples', () => {
  test('come before the first step, when due, and after the last, each once', async () => {
    const f = await fresh({ run: { steps: 5 } })
    const asked: string[] = []
    const sample = (p: string) => Promise.resolve((asked.push(p), `${p}!`))
    const extras = { ...NO_EXTRAS, evalEvery: 2, sampleEvery: 3, samplePrompts: ['a', 'b'] }
    const events = await collect({ ...f, held: tinyRows({ rows: 2 }), extras, sample })
    expect(kinds(events)).toEqual([
      'eval 0', 'sample 0', 'sample 0', 'step 1', 'step 2', 'eval 2', 'step 3', 'sample 3', 'sample 3',
      'step 4', 'eval 4', 'step 5', 'eval 5', 'sample 5', 'sample 5', 'done steps',
    ]) // prettier-ignore
    expect(asked).toEqual(['a', 'b', 'a', 'b', 'a', 'b'])
  })

  /** Training that makes held-out rows (counting down) worse: the rows count up. */
  const worse = async (extra: Partial<typeof NO_EXTRAS>, steps = 30) => {
    const f = await fresh({ run: { steps, lr: 0.05 } })
    const up = tinyRows({ rows: 4 })
    const ids = up.ids.map((_, i) => up.ids[Math.floor(i / 12) * 12 + 11 - (i % 12)])
    const held = { ids, labels: ids.slice(), offsets: up.offsets }
    return { f, held, events: await collect({ ...f, held, extras: { ...NO_EXTRAS, evalEvery: 2, ...extra } }) }
  }

  test('patience ends the run, and the best values are back on the GPU', async () => {
    const { f, held, events } = await worse({ patience: 3, keepBest: true })
    const evals = events.flatMap((e) => (e.type === 'eval' ? [e] : []))
    const lowest = Math.min(...evals.map((e) => e.record.loss))
    const best = evals.findIndex((e) => e.record.loss === lowest)
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'patience', restored: { loss: lowest } })
    expect(evals.length - 1 - best).toBe(3)
    expect(f.trainer.done).toBeLessThan(30)
    expect((await f.trainer.evaluate(held)).loss).toBe(lowest)
    expect(evals.map((e) => e.best)).toEqual(evals.map((e, i) => evals.slice(0, i).every((p) => p.record.loss > e.record.loss)))
  })

  test('without keeping the best the last values stay', async () => {
    const { f, held, events } = await worse({}, 12)
    const last = events.flatMap((e) => (e.type === 'eval' ? [e.record.loss] : [])).at(-1)
    expect(events.at(-1)).toMatchObject({ reason: 'steps', restored: null })
    expect((await f.trainer.evaluate(held)).loss).toBe(last)
  })
})

describe('control', () => {
  test('pause stores a checkpoint and waits; single step, resume and stop do what they say', async () => {
    const f = await fresh({ run: { steps: 100 } })
    const control = new RunControl(true)
    const saved: number[] = []
    let paused = 0
    const events = await collect(
      { ...f, held: null, extras: NO_EXTRAS, control, save: (c) => Promise.resolve(void saved.push(c.state.step)) },
      (e) => {
        if (e.type === 'status' && e.status === 'paused') setTimeout(() => (++paused === 1 ? control.step() : control.resume()))
        if (e.type === 'step' && e.record.step === 4) control.stop()
      },
    )
    expect(kinds(events)).toEqual([
      'checkpoint 0', 'paused 0', 'running 0', 'step 1', 'checkpoint 1', 'paused 1', 'running 1',
      // Step 5 was in the GPU's queue when step 4's loss came.
      'step 2', 'step 3', 'step 4', 'step 5', 'checkpoint 5', 'done stopped',
    ]) // prettier-ignore
    expect(saved).toEqual([0, 1, 5])
  })

  test('a checkpoint that is asked for is stored before the next step; an abort ends at once with its reason', async () => {
    const f = await fresh({ run: { steps: 100 } })
    const control = new RunControl()
    const abort = new AbortController()
    const events: RunEvent[] = []
    const going = collect({ ...f, held: null, extras: NO_EXTRAS, control, signal: abort.signal, save: () => Promise.resolve() }, (e) => {
      events.push(e)
      if (e.type === 'step' && e.record.step === 2) control.checkpoint()
      if (e.type === 'step' && e.record.step === 4) abort.abort(new Error('deleted'))
    })
    await expect(going).rejects.toThrow('deleted')
    // Asked for when step 2's loss came: stored after step 3, which was in the queue by then.
    expect(kinds(events)).toEqual(['step 1', 'step 2', 'step 3', 'checkpoint 3', 'step 4'])
  })
})

test('a step that is not finite ends the run with the rows named; the values and the chart so far are stored', async () => {
  const f = await fresh({ run: { steps: 20, lr: 1e-3 }, options: { r: 2 } })
  const saved: Checkpoint[] = []
  let before: unknown
  const events: RunEvent[] = []
  const going = (async () => {
    for await (const e of run({ ...f, held: null, extras: NO_EXTRAS, save: (c) => Promise.resolve(void saved.push(c)) })) {
      events.push(e)
      if (e.type !== 'step' || e.record.step !== 2) continue
      // Of step 3, which is in the queue; the weights written now are those of step 4.
      before = await values(f.t)
      // A weight that overflows the next forward pass.
      const embedding = f.t.store.embedding.data
      embedding.storage.write(new Float32Array(64).fill(3e38), embedding.byteOffset)
      const first = [...f.t.store.vectors.values()][0].data
      first.storage.write(new Float32Array(32).fill(Infinity), first.byteOffset)
    }
  })()
  await expect(going).rejects.toThrow(RunError)
  await expect(going).rejects.toThrow(/not finite.*step 4|step 4.*not finite/)
  expect(kinds(events)).toEqual(['step 1', 'step 2', 'step 3', 'checkpoint 3'])
  expect(await values(f.t)).toEqual(before)
  expect(saved[0].records.steps).toHaveLength(3)
})

describe('steps in flight', () => {
  test('at most two: the next one is submitted before the record of the one before comes, and nothing is between it and what is due', async () => {
    const f = await fresh({ run: { steps: 7 } })
    const submitted: number[] = []
    const submit = f.trainer.submit.bind(f.trainer)
    f.trainer.submit = (...a) => {
      submit(...a)
      expect(f.trainer.inFlight).toBeLessThanOrEqual(2)
      submitted.push(f.trainer.done + f.trainer.inFlight)
    }
    const ahead: [string, number][] = []
    for await (const e of run({ ...f, held: tinyRows({ rows: 2 }), extras: { ...NO_EXTRAS, evalEvery: 4 } }))
      if (e.type === 'step' || e.type === 'eval') ahead.push([`${e.type} ${e.record.step}`, submitted.at(-1) ?? 0])
    expect(ahead).toEqual([
      ['eval 0', 0], ['step 1', 2], ['step 2', 3], ['step 3', 4], ['step 4', 4], ['eval 4', 4], ['step 5', 6], ['step 6', 7], ['step 7', 7], ['eval 7', 7],
    ]) // prettier-ignore
  })

  test('the same records and values, to the bit, as steps one by one', async () => {
    const setup = { options: { r: 4, dropout: 0.3 }, accum: 2, run: { batch: 2, steps: 6, warmup: 2, lr: 1e-2 } }
    const one = await fresh(setup)
    const alone = []
    for (let i = 0; i < 6; i++) {
      const r = await one.trainer.step(one.source.step(), one.source.data)
      alone.push([r.step, r.loss, r.grad_norm, r.lr])
    }
    const queued = await fresh(setup)
    expect(losses(await collect({ ...queued, held: null, extras: NO_EXTRAS }))).toEqual(alone)
    expect(await values(queued.t)).toEqual(await values(one.t))
  })

  test('after a step that is not finite those behind it change nothing; then the trainer goes on from before it', async () => {
    const f = await fresh({ run: { steps: 20, lr: 1e-2 }, options: { r: 2 } })
    const other = await fresh({ run: { steps: 20, lr: 1e-2 }, options: { r: 2 } })
    for (const g of [f, other]) await g.trainer.step(g.source.step(), g.source.data)
    const before = await values(f.t)
    const moments = [...new Float32Array(await f.t.trained!.arenas[0].training!.m.read())]
    const norm = [...f.t.store.vectors.values()][0].data
    const good = new Float32Array((await norm.storage.read()).slice(0))
    const batches = f.source.step()
    norm.storage.write(new Float32Array(good.length).fill(Infinity))
    f.trainer.submit(batches, f.source.data)
    // In order with the submits: the step behind it sees good weights.
    norm.storage.write(good)
    f.trainer.submit(f.source.step(), f.source.data)
    expect(f.trainer.hasRoom).toBe(false)
    await expect(f.trainer.take()).rejects.toThrow(RunError)
    expect([f.trainer.inFlight, f.trainer.done]).toEqual([0, 1])
    expect(await values(f.t)).toEqual(before)
    expect([...new Float32Array(await f.t.trained!.arenas[0].training!.m.read())]).toEqual(moments)
    const again = await f.trainer.step(batches, f.source.data)
    const want = await other.trainer.step(other.source.step(), other.source.data)
    expect([again.step, again.loss, again.grad_norm]).toEqual([want.step, want.loss, want.grad_norm])
    expect(await values(f.t)).toEqual(await values(other.t))
  })

  test('results that came and were not looked at yet count, in steps and in evaluations', async () => {
    const f = await fresh({ run: { steps: 8, batch: 1 } })
    const settle = () => new Promise((resolve) => setTimeout(resolve, 60))
    let most = 0
    for await (const e of run({ ...f, held: null, extras: NO_EXTRAS })) {
      most = Math.max(most, f.trainer.inFlight)
      if (e.type === 'step') await settle()
    }
    expect(most).toBe(1)
    const held = tinyRows({ rows: 9 })
    const loss = (await f.trainer.evaluate(held)).loss
    // Every upload waits until what was submitted before it has come.
    const write = f.trainer.program.buffers.write.bind(f.trainer.program.buffers)
    f.trainer.program.buffers.write = (...a) => {
      const until = performance.now() + 15
      while (performance.now() < until);
      write(...a)
    }
    expect((await f.trainer.evaluate(held)).loss).toBe(loss)
  })

  test('what reads the whole state waits for nobody: it is refused while steps are in flight', async () => {
    const f = await fresh({ run: { steps: 3 } })
    f.trainer.submit(f.source.step(), f.source.data)
    await expect(f.trainer.state()).rejects.toThrow('in flight')
    await expect(f.trainer.evaluate(tinyRows())).rejects.toThrow('in flight')
    f.trainer.submit(f.source.step(), f.source.data)
    expect(() => f.trainer.submit(f.source.step(), f.source.data)).toThrow('in flight already')
    // Destroyed with results on their way: nothing is thrown at anybody.
  })
})

/** Moments in 8 bits: a code is off by up to 1 part in 60, so is the step it makes; the losses of such runs part by less than 2 %. */
test.each(['adamw_8bit', 'adamw_coat'] as const)(
  '%s: large parameters keep moments in 8 bits, small ones in 32; the run is that of AdamW',
  async (optim) => {
    const setup = { method: 'full', run: { steps: 12, lr: 3e-3 } }
    const exact = await fresh(setup)
    const f = await fresh({ ...setup, optim })
    const arenas = f.t.trained!.arenas
    expect(arenas.map((a) => a.moments)).toEqual([null, optim === 'adamw_8bit' ? 'dynamic' : 'expand'])
    for (const e of f.t.trained!.entries) expect(arenas[e.arena].moments === null, e.key).toBe(!/gate_proj|up_proj/.test(e.key))
    const bytes = (of: typeof f) => of.trainer.program.plan.bytes.optimizer
    expect(arenas[1].training!.m.bytes).toBeLessThan(arenas[1].param.bytes * 0.27)
    expect(bytes(f)).toBeLessThan(bytes(exact))
    const [want, got] = [
      losses(await collect({ ...exact, held: null, extras: NO_EXTRAS })),
      losses(await collect({ ...f, held: null, extras: NO_EXTRAS })),
    ]
    expect(want.at(-1)![1]).toBeLessThan(0.9 * want[0][1])
    want.forEach(([, loss], i) => expect(Math.abs(got[i][1] / loss - 1)).toBeLessThan(0.02))
    const state = await f.trainer.state()
    await expect(async () => exact.trainer.restore(state)).rejects.toThrow('another run')
  },
)
