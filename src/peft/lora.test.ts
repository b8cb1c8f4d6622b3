/** What LoRA and DoRA have beyond the suite of all methods: dropout, LoRA+'s rates, rsLoRA's scale, and exports of replaced weights. */
import { describe, expect, test } from 'vitest'
import { gpu, randn, relative, run } from '../../test/gpu.ts'
import { gradientsOf, onGpu, RUN, tinyBundle, tinyRows } from '../../test/tiny.ts'
import { BatchSource } from '../data/collate.ts'
import { linear } from '../autograd/ops/linear.ts'
import { parseOptions } from '../options.ts'
import { ScalarInput } from '../tensor/graph.ts'
import type { Weight } from '../tensor/weight.ts'
import { Trainer } from '../train/trainer.ts'
import { dora } from './dora.ts'
import { decomposedInit, lora, LORA_OPTIONS, loraRemainder, loraScale, type LoraValues, standaloneFactors, addUpdate } from './lora.ts'
import type { AnyLinearMethod, LinearSite } from './method.ts'

type F32 = Float32Array<ArrayBuffer>
const values = (o: Readonly<Record<string, unknown>>): LoraValues => parseOptions(LORA_OPTIONS, o)

describe('scale', () => {
  test('alpha / r, and alpha / √r with rsLoRA', () => {
    expect(loraScale(values({ r: 4, alpha: 6 }))).toBe(1.5)
    expect(loraScale(values({ r: 4, alpha: 6, use_rslora: true }))).toBe(3)
  })
})

describe('dropout', () => {
  const [M, K] = [64, 32]
  const p = 0.25
  /** The update of a layer whose input is all ones, A = 1…1 and B = 1, s = 1: how many inputs of each row were kept, over 1 - p. */
  async function kept(training: boolean, seed: number): Promise<F32> {
    const ones = (n: number): F32 => new Float32Array(n).fill(1)
    const out = await run(({ leaf }) => {
      const weight: Weight = { format: 'f32', rows: 4, cols: K, data: leaf([4, K], new Float32Array(4 * K)), scales: null }
      const site: LinearSite = {
        name: 'site',
        members: ['site'],
        inFeatures: K,
        outFeatures: 4,
        weight,
        range: { from: 0, rows: 4 },
        segments: [],
        bias: null,
        residual: null,
        base: (x) => linear(x, weight),
      }
      const A = new Float32Array(4 * K)
      A.fill(1, 0, K)
      const B = new Float32Array(16)
      for (let n = 0; n < 4; n++) B[4 * n] = 1
      const method: AnyLinearMethod = lora
      const x = leaf([M, K], ones(M * K))
      const y = method.forward(x, site, { lora_A: leaf([4, K], A), lora_B: leaf([4, 4], B) }, values({ r: 4, alpha: 4, dropout: p }), {
        training,
        seed: new ScalarInput(seed),
        stream: 3,
      })
      return { y }
    })
    return out.y.filter((_, i) => i % 4 === 0)
  }
  test('keeps whole inputs, scaled by 1 / (1 - p), and none is lost when the model is used', async () => {
    const counts = (await kept(true, 1)).map((v) => v * (1 - p))
    for (const c of counts) expect(Math.abs(c - Math.round(c))).toBeLessThan(1e-4)
    expect(new Set(counts.map(Math.round)).size).toBeGreaterThan(3)
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length
    // Five standard deviations of a mean of 64 binomials.
    expect(Math.abs(mean - K * (1 - p))).toBeLessThan(5 * Math.sqrt((K * p * (1 - p)) / M))
    expect([...(await kept(false, 1))]).toEqual(new Array(M).fill(K))
    expect(await kept(true, 2)).not.toEqual(await kept(true, 1))
    expect(await kept(true, 1)).toEqual(await kept(true, 1))
  })

  test.each([
    ['lora', lora],
    ['dora', dora],
  ] as const)('%s: another mask at every step, the same when activations are recomputed, none in an evaluation', async (_, method) => {
    const bundle = await tinyBundle()
    const data = tinyRows({ rows: 4 })
    const measure = async (dropout: number, checkpointing: boolean) => {
      const t = await onGpu(bundle, method, { dropout, r: 4 })
      // Away from the start, where B is zero and a mask changes nothing.
      for (const [i, e] of t.trained!.entries.entries()) if (e.key.includes('lora_B')) t.trained!.write(e, randn(e.shape, i, 0.2))
      const trainer = await Trainer.create(gpu, t, { ...RUN, policy: checkpointing ? 'checkpoint' : 'fast' })
      const at = async (seed: number) => {
        trainer.program.seed.value = seed
        return gradientsOf(trainer, data)
      }
      try {
        const [one, again, two] = [await at(11), await at(11), await at(12)]
        return { one, again, two, evaluated: (await trainer.evaluate(data)).loss }
      } finally {
        trainer.destroy()
        t.destroy()
      }
    }
    const [plain, dropped, recomputed] = [await measure(0, false), await measure(0.3, false), await measure(0.3, true)]
    expect(dropped.again.loss).toBe(dropped.one.loss)
    expect(Math.abs(dropped.two.loss - dropped.one.loss)).toBeGreaterThan(1e-4)
    expect(Math.abs(plain.two.loss - plain.one.loss)).toBe(0)
    expect(Math.abs(dropped.evaluated - plain.evaluated)).toBeLessThan(1e-6)
    expect(Math.abs(plain.evaluated - plain.one.loss)).toBeLessThan(1e-5)
    expect(Math.abs(recomputed.one.loss - dropped.one.loss)).toBeLessThan(1e-6)
    // Recomputed sums may be added in another order; another mask would differ by some 10 %.
    for (const [key, g] of dropped.one.grads) expect(relative(recomputed.one.grads.get(key)!, g), key).toBeLessThan(1e-5)
    expect([...dropped.one.grads].some(([key, g]) => relative(dropped.two.grads.get(key)!, g) > 1e-2)).toBe(true)
  })
  test('the trainer draws a new seed for every step', async () => {
    const t = await onGpu(await tinyBundle(), lora, { dropout: 0.5, init_lora_weights: 'olora', r: 4 })
    // At a rate of 0 nothing else changes between steps over the same rows.
    const trainer = await Trainer.create(gpu, t, { ...RUN, lr: 0 })
    const data = tinyRows({ rows: 4 })
    const source = new BatchSource(data, { batch: 4, seq: 16, accum: 1, seed: 0, shuffle: false, pack: false })
    const losses = new Set<number>()
    for (let i = 0; i < 4; i++) losses.add((await trainer.step(source.step(), data)).loss)
    expect(losses.size).toBe(4)
    trainer.destroy()
    t.destroy()
  })
})

test('LoRA+: B moves by the ratio times what A moves', async () => {
  const t = await onGpu(await tinyBundle(), lora, { r: 4, loraplus_lr_ratio: 8, init_lora_weights: 'olora' })
  const trainer = await Trainer.create(gpu, t, { ...RUN, lr: 1e-4 })
  const before = await t.trained!.read()
  const data = tinyRows({ rows: 4 })
  await trainer.step(new BatchSource(data, { batch: 4, seq: 16, accum: 1, seed: 0, shuffle: false, pack: false }).step(), data)
  // AdamW's first step is the rate, whatever the gradient's size.
  for (const [key, { data: after }] of await t.trained!.read()) {
    const moved = after.map((v, i) => Math.abs(v - before.get(key)!.data[i])).sort()
    const rate = key.includes('lora_B') ? 8e-4 : 1e-4
    expect(Math.abs(moved[moved.length >> 1] - rate), key).toBeLessThan(0.02 * rate)
  }
  trainer.destroy()
  t.destroy()
})

describe.each(['pissa', 'olora'] as const)('%s', (init) => {
  test.each([
    ['square', 24, 24, 4],
    ['wide', 8, 40, 4],
    ['tall', 40, 8, 4],
    ['rank beyond the matrix', 6, 5, 8],
    ['rsLoRA', 24, 20, 4],
  ])('base and update at the start are the weight, and the standalone form is the trained layer (%s)', async (name, N, Kin, r) => {
    const W = randn([N, Kin], 3, 0.3)
    const o = values({ r, alpha: 6, init_lora_weights: init, use_rslora: name === 'rsLoRA' })
    const site = { name: 'site', inFeatures: Kin, outFeatures: N, weight: async () => W }
    const { params } = await decomposedInit(site, o)
    const [A0, B0] = [params.lora_A, params.lora_B]
    const s = loraScale(o)
    // Rows by themselves or together: the same bits.
    const residual = loraRemainder(W, 0, { lora_A: A0, lora_B: B0 }, o)
    expect(loraRemainder(W.slice(2 * Kin, 5 * Kin), 2, { lora_A: A0, lora_B: B0 }, o)).toEqual(residual.slice(2 * Kin, 5 * Kin))
    // Values around 1, rounded to float32 twice.
    expect(Math.max(...addUpdate(residual, A0, B0, r, s).map((v, i) => Math.abs(v - W[i])))).toBeLessThan(1e-6)
    // Moved, as training would.
    const trained = {
      lora_A: A0.map((v, i) => v + 0.1 * randn([A0.length], 4)[i]),
      lora_B: B0.map((v, i) => v + 0.1 * randn([B0.length], 5)[i]),
    }
    const { options, params: own } = standaloneFactors(trained, { lora_A: A0, lora_B: B0 }, o)
    expect(options).toMatchObject({ r: 2 * r, init_lora_weights: 'true' })
    expect(loraScale(options)).toBeCloseTo(s, 12)
    const layer = addUpdate(residual, trained.lora_A, trained.lora_B, r, s)
    expect(Math.max(...addUpdate(W, own.lora_A, own.lora_B, 2 * r, loraScale(options)).map((v, i) => Math.abs(v - layer[i])))).toBeLessThan(
      2e-6,
    )
  })
})
