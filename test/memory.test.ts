/** Planned bytes against every buffer that the device is asked for, and devices with less memory than a run needs. The plan is exact: no tolerance. What
 * reading a checkpoint takes beside it stays within the 5 % that a plan may be off. */
import { afterEach, describe, expect, test } from 'vitest'
import { benchBundle } from '../bench/etude.ts'
import { makeWeights } from '../bench/model.ts'
import type { TokenRows } from '../src/data/types.ts'
import { GpuError } from '../src/errors.ts'
import { targetOf } from '../src/gpu/device.ts'
import type { Json } from '../src/peft/method.ts'
import type { RunOptions } from '../src/train/run_config.ts'
import { BatchSource } from '../src/data/collate.ts'
import { BY_COST, stepOf } from '../src/train/policy.ts'
import { READBACK_BYTES } from '../src/train/readback.ts'
import { Trainer } from '../src/train/trainer.ts'
import { findMethod, TunableLayout } from '../src/train/tunable.ts'
import { DeviceMemory } from './device_memory.ts'
import { gpu } from './gpu.ts'
import { RUN, tinyBundle, tinyRows, trainSteps } from './tiny.ts'

let memory: DeviceMemory | null = null
afterEach(() => {
  memory?.restore()
  memory = null
})

const BENCH = await benchBundle(makeWeights())
const rows = (): TokenRows => tinyRows({ rows: 4, length: 64 })
type Case = [name: string, method: string, options: Json, run: Partial<RunOptions>]
const CASES: Case[] = [
  ['LoRA', 'lora', { r: 8 }, {}],
  ['LoRA, recomputed', 'lora', { r: 8 }, { policy: 'checkpoint' }],
  ['LoRA over NF4, lean', 'lora', { r: 8 }, { base: 'nf4', policy: 'lean' }],
  ['LoRA over Q8, recomputed norms', 'lora', { r: 8 }, { base: 'q8', policy: 'recompute' }],
  ['LoRA over f16, f16 activations', 'lora', { r: 8 }, { base: 'f16', activation_dtype: 'f16' }],
  ['LoRA, f16 checkpoints', 'lora', { r: 8 }, { policy: 'checkpoint', activation_dtype: 'f16' }],
  ['LoRA, one long row', 'lora', { r: 8, dropout: 0.1 }, { batch: 1, seq: 128 }],
  ['DoRA', 'dora', { r: 4 }, {}],
  ['(IA)³', 'ia3', {}, {}],
  ['prompt tuning', 'prompt-tuning', { num_virtual_tokens: 8 }, {}],
  ['every weight', 'full', {}, {}],
  ['every weight, 8-bit optimizer', 'full', {}, { optim: 'adamw_8bit' }],
  ['every weight, COAT', 'full', {}, { optim: 'adamw_coat' }],
  ['LoRA, 8-bit optimizer', 'lora', { r: 16 }, { optim: 'adamw_8bit' }],
]

describe('the bench model', () => {
  test.each(CASES)('%s: what is planned is what the device is asked for, to the byte', async (_, method, options, change) => {
    const o = { ...RUN, batch: 4, seq: 64, ...change }
    memory = new DeviceMemory(gpu)
    const layout = { base: change.base ?? 'f32', seed: 0, trainable: true, maxBindingSize: gpu.traits.maxBindingSize } as const
    const t = new TunableLayout(BENCH, findMethod(method), options, { ...layout, optim: change.optim ?? 'adamw' })
    await t.fill(gpu)
    const trainer = await Trainer.create(gpu, t, o)
    const { plan } = trainer.program
    try {
      expect(memory.live).toBe(plan.total)
      expect(memory.peak).toBe(plan.total)
      expect(Object.values(plan.bytes).reduce((a, b) => a + b)).toBe(plan.total)
      const source = new BatchSource(rows(), { batch: o.batch, seq: o.seq, accum: 2, seed: 0, shuffle: false, pack: false })
      trainer.submit(source.step(), source.data)
      trainer.submit(source.step(), source.data)
      await trainer.take()
      await trainer.take()
      await trainer.evaluate(rows())
      expect(memory.peak, 'after steps and an evaluation').toBe(plan.total)
      await trainer.state()
      expect(memory.peak / plan.total, 'after a checkpoint').toBeLessThan(1.05)
      console.log(`${_}: ${(plan.total / 1e6).toFixed(2)} MB planned and allocated, ${(memory.peak / 1e6).toFixed(2)} at most`)
    } finally {
      trainer.destroy()
      t.destroy()
    }
    expect([memory.live, memory.buffers.size]).toEqual([0, 0])
  })
})

describe('a device with less memory', () => {
  interface Less {
    readonly method?: string
    readonly options?: Json
    readonly change?: Partial<RunOptions>
    readonly fields?: Json
  }
  const run = async (limit: number, { method = 'lora', options = { r: 4 }, change = {}, fields = {} }: Less = {}) => {
    const bundle = await tinyBundle(fields)
    const before = gpu.allocatedBytes
    memory = new DeviceMemory(gpu, limit)
    const layout = { base: 'f32', seed: 0, trainable: true, maxBindingSize: gpu.traits.maxBindingSize } as const
    const t = new TunableLayout(bundle, findMethod(method), options, layout)
    let trainer: Trainer | null = null
    try {
      await t.fill(gpu)
      const filled = memory.live
      trainer = await Trainer.create(gpu, t, { ...RUN, ...change })
      const last = trainer.session.programs.reduce((n, p) => n + p.uniforms.size, READBACK_BYTES)
      const { program, notes } = trainer
      const [first] = await trainSteps(trainer, tinyRows(), 1)
      return { error: null, filled, last, plan: program.plan, policy: program.keeping.policy, notes, loss: first.loss }
    } catch (e) {
      return { error: e, filled: 0, last: 0, plan: null, policy: null, notes: [], loss: NaN }
    } finally {
      trainer?.destroy()
      t.destroy()
      expect([memory.live, memory.buffers.size, gpu.allocatedBytes]).toEqual([0, 0, before])
      memory.restore()
    }
  }
  test('each class that does not fit is named, with its size and what to do; nothing is left; with enough it goes', async () => {
    const { error, plan, filled, last } = await run(Infinity)
    expect(error).toBeNull()
    const { bytes, total, arena, arenaMemory } = plan!
    const made = (memory: string) => arena.reduce((n, size, i) => n + (arenaMemory[i] === memory ? size : 0), 0)
    const limits = {
      weights: bytes.weights - 1,
      adapter: bytes.weights + bytes.adapter - 1,
      // Its moments are made with the adapter; uniforms and staging buffers come last.
      batch: filled + 1,
      head: total - last - made('activations') - 1,
      activations: total - last - 1,
      uniforms: total - 1,
    }
    const said = []
    for (const [name, limit] of Object.entries(limits)) {
      const { error: e } = await run(limit)
      expect(e, name).toBeInstanceOf(GpuError)
      const { what, where, why, fix } = e as GpuError
      expect(why).toContain('no memory for')
      expect(fix).toMatch(/Use|Keep|Close/)
      said.push([what.replace(/ \(.*/, ''), where])
    }
    expect(said).toEqual([
      ['the GPU has no room for the weights', expect.any(String)],
      ['the GPU has no room for the adapter', 'GPU memory, adapter'],
      ['the GPU has no room for the batch', 'GPU memory, batch'],
      ["the GPU has no room for the loss head's logits", 'GPU memory, head'],
      ['the GPU has no room for the activations', 'GPU memory, activations'],
      ['the GPU has no room for the batch', 'GPU memory, batch'],
    ])
    expect((await run(total)).error).toBeNull()
  })

  test('auto goes on with the next policy where the GPU refuses, and says so; only the leanest is refused', async () => {
    // Blocks enough that a policy is a matter of bytes.
    const long = { fields: { num_hidden_layers: 6, vocab_size: 512 }, change: { seq: 64, policy: 'auto' } } as const
    const target = targetOf(gpu.traits)
    const bundle = await tinyBundle(long.fields)
    const o = { base: 'f32', seed: 0, trainable: true, maxBindingSize: gpu.traits.maxBindingSize } as const
    const t = new TunableLayout(bundle, findMethod('lora'), { r: 4 }, o)
    const totals = BY_COST.map((policy) => stepOf(t, { ...RUN, ...long.change }, target, policy).plan.total)
    for (let i = 1; i < totals.length; i++) expect(totals[i]).toBeLessThan(totals[i - 1])
    const plenty = await run(Infinity, long)
    expect([plenty.policy, plenty.notes]).toEqual(['fast', []])
    for (const [i, policy] of BY_COST.entries()) {
      const made = await run(totals[i], long)
      expect(made.error, policy).toBeNull()
      expect([made.policy, made.plan!.total]).toEqual([policy, totals[i]])
      expect(made.notes).toHaveLength(i)
      made.notes.forEach((note, k) => expect(note).toMatch(new RegExp(`no room for policy ${BY_COST[k]} .* ${BY_COST[k + 1]} \\(`)))
      expect(Math.abs(made.loss - plenty.loss)).toBeLessThan(1e-5)
    }
    const { error } = await run(totals.at(-1)! - 1, long)
    expect(error).toBeInstanceOf(GpuError)
    expect((error as GpuError).where).toMatch(/^GPU memory/)
    // A policy that was named is kept.
    expect((await run(totals[0] - 1, { ...long, change: { ...long.change, policy: 'fast' } })).error).toBeInstanceOf(GpuError)
  })

  test('every weight is trained: what is said is about the class that was refused, and no smaller base is advised', async () => {
    const full = { method: 'full', options: {} }
    const { bytes } = (await run(Infinity, full)).plan!
    const cases = [
      [bytes.weights - 1, 'the weights, which are trained as f32', 'weights', 'lora'],
      [bytes.weights + 1, 'the gradients of all weights', 'adapter', 'lora'],
      [bytes.weights + bytes.adapter + 1, "the optimizer's states of all weights", 'optimizer', 'adamw_8bit'],
    ] as const
    for (const [limit, what, where, fix] of cases) {
      const { error } = await run(limit, full)
      expect(error).toBeInstanceOf(GpuError)
      expect(error).toMatchObject({ what: expect.stringContaining(`no room for ${what} (`) as string, where: `GPU memory, ${where}` })
      expect((error as GpuError).fix).toContain(fix)
      expect((error as GpuError).fix).not.toMatch(/nf4|q8\b/)
    }
  })
})
