/** What one binding of a device can hold: laid out within it, or refused before anything is made; never bound in part. */
import { afterEach, describe, expect, test } from 'vitest'
import { gpu, target } from '../../test/gpu.ts'
import { RUN, tinyBundle, tinyRows, trainSteps } from '../../test/tiny.ts'
import { add } from '../autograd/ops/pointwise.ts'
import { GpuError, OptionError } from '../errors.ts'
import type { Json } from '../peft/method.ts'
import { Graph } from '../tensor/graph.ts'
import { Session, SessionPlan } from '../tensor/program.ts'
import { Storage } from '../tensor/storage.ts'
import { makePlan } from '../worker/engine/planner.ts'
import { makeableStep } from './limits.ts'
import { ParamSet } from './param_set.ts'
import { type Base, methodDefaults, type RunOptions } from './run_config.ts'
import { Trainer } from './trainer.ts'
import { findMethod, TunableLayout } from './tunable.ts'

const { maxBindingSize, maxBufferSize } = gpu.traits
afterEach(() => gpu.adopt({ maxBindingSize, maxBufferSize }))

const refusal = (make: () => unknown): unknown => {
  try {
    return make()
  } catch (e) {
    return e
  }
}

describe('parameters in flat buffers', () => {
  const entry = (key: string, floats: number) => ({ key, shape: [floats], lr: 1 })
  test('many small ones are split at the limit', () => {
    const set = new ParamSet(256, true, 'adapter')
    for (let i = 0; i < 5; i++) set.add([entry(`p${i}`, 100)])
    expect(set.arenas.map((a) => a.length)).toEqual([256, 256, 128])
  })
  test('what exceeds it by itself, its padding counted, is refused by name and bytes', () => {
    const set = new ParamSet(130, true, 'adapter')
    expect(set.add([entry('fits', 128)]).arena).toBe(0)
    const e = refusal(() => set.add([entry('a', 64), entry('b', 65)]))
    expect(e).toBeInstanceOf(OptionError)
    expect(e).toMatchObject({ where: 'a | b', what: expect.stringMatching(/takes 768 bytes.*at most 520/) as string })
  })
})

const WIDE = { intermediate_size: 256, num_hidden_layers: 1 }
const layout = async (method: string | null, limit: number, o: { base?: Base; options?: Json } = {}) =>
  new TunableLayout(await tinyBundle(WIDE), method === null ? null : findMethod(method), o.options ?? {}, {
    base: o.base ?? 'keep',
    seed: 0,
    trainable: method !== null,
    maxBindingSize: limit,
  })

describe('a model whose tensors one binding cannot hold', () => {
  // The table takes 8 KiB, gate_proj 32 KiB as f32.
  test('is not trained in full: the tensor, its bytes, the limit and what to do are named', async () => {
    const e = await layout('full', 2 ** 12).catch((e: unknown) => e)
    expect(e).toBeInstanceOf(OptionError)
    expect(e).toMatchObject({ where: 'model.embed_tokens.weight', what: expect.stringMatching(/takes 8192 bytes.*at most 4096/) as string })
    expect((e as OptionError).fix).toContain('lora')
    expect((e as OptionError).why).toContain('never be updated')
  })
  test('frozen matrices are refused, and taken in fewer bits', async () => {
    const e = await layout('lora', 2 ** 14, { options: { r: 2 } }).catch((e: unknown) => e)
    expect(e).toBeInstanceOf(OptionError)
    expect(e).toMatchObject({
      where: expect.stringContaining('gate_proj') as string,
      what: expect.stringMatching(/takes 32768 bytes.*at most 16384/) as string,
    })
    expect((await layout('lora', 2 ** 14, { base: 'q8', options: { r: 2 } })).storages.every((s) => s.bytes <= 2 ** 14)).toBe(true)
  })
  test('what fits is laid out in several buffers and trains as in one', async () => {
    const records = []
    for (const limit of [2 ** 15, maxBindingSize]) {
      gpu.adopt({ maxBindingSize: limit })
      const t = await layout('full', limit)
      const arenas = t.trained!.arenas.length
      await t.fill(gpu)
      const trainer = await Trainer.create(gpu, t, { ...RUN, batch: 1 })
      records.push({ arenas, steps: await trainSteps(trainer, tinyRows(), 3) })
      trainer.destroy()
      t.destroy()
    }
    expect(records.map((r) => r.arenas > 1)).toEqual([true, false])
    const [split, whole] = records.map((r) => r.steps)
    // The gradient's norm is summed in another order.
    split.forEach((s, i) => expect(Math.abs(s.loss - whole[i].loss)).toBeLessThan(1e-5))
  })
})

test('a tensor that is larger than a binding is no program', async () => {
  const s = new Storage('too large', 4096, 'weights').allocate(gpu)
  const g = new Graph(target)
  const x = g.leaf(s, [1024])
  const out = add(x, x)
  const plan = new SessionPlan([{ name: 'sum', graph: g, keep: [out] }])
  const buffers = gpu.allocatedBytes
  gpu.adopt({ maxBindingSize: 2048 })
  const e = await Session.create(gpu, plan).catch((e: unknown) => e)
  expect(e).toBeInstanceOf(GpuError)
  expect((e as GpuError).message).toMatch(/sum, .*too large: it takes 4096 bytes.*at most 2048/i)
  expect(gpu.allocatedBytes).toBe(buffers)
  gpu.adopt({ maxBindingSize: 4096 })
  ;(await Session.create(gpu, plan)).destroy()
  s.destroy()
})

describe('a run is refused before anything is made', () => {
  const run = (change: Partial<RunOptions>): RunOptions => ({ ...methodDefaults(null, null), policy: 'fast', batch: 1, seq: 16, ...change })
  const plan = async (method: string, change: Partial<RunOptions>, limits: Partial<typeof gpu.traits>) =>
    makePlan(
      await tinyBundle(WIDE),
      { method, options: method === 'lora' ? { r: 2 } : {}, run: run(change) },
      { traits: { ...gpu.traits, ...limits }, budget: 2 ** 30 },
    )
  test('by the studio: activations by the smaller limit, with a change that fits', async () => {
    for (const limits of [{ maxBindingSize: 2 ** 16 }, { maxBufferSize: 2 ** 16 }]) {
      expect((await plan('lora', {}, limits)).refusal).toBeNull()
      const { refusal } = await plan('lora', { batch: 8 }, limits)
      expect(refusal).toMatchObject({ name: 'GpuError', where: 'activations', fix: expect.stringContaining('batch') as string })
    }
    expect((await plan('lora', {}, { maxBufferSize: 2 ** 14 })).refusal!.what).toContain('more than this device can bind')
    await expect(plan('full', {}, { maxBindingSize: 2 ** 12 })).rejects.toThrow(OptionError)
  })
  test('by the command line', async () => {
    const t = await layout('lora', 2 ** 16, { options: { r: 2 } })
    gpu.adopt({ maxBindingSize: 2 ** 16 })
    expect(makeableStep(gpu, t, run({})).keeping.policy).toBe('fast')
    expect(() => makeableStep(gpu, t, run({ batch: 8 }))).toThrow(GpuError)
  })
})
