/** @file Packed products of one row: tightly as their own arithmetic in double precision (1e-5 of the sum of the terms' sizes: float32 sums), and near the plain
 * product (1e-2 of its norm: each activation is off by up to 1/254 of the largest of its 8, to and fro). */
import { describe, expect, test } from 'vitest'
import { randn, run, target } from '../../../test/gpu.ts'
import { type TestWeight, testWeight } from '../../../test/weights.ts'
import { DOT_FORMATS, roundedToBytes } from '../../kernels/matmul_vec.ts'
import { layoutOf, type WeightFormat } from '../../kernels/weight_formats.ts'
import { Graph, type TargetTraits, type Tensor } from '../../tensor/graph.ts'
import { Storage } from '../../tensor/storage.ts'
import type { Weight } from '../../tensor/weight.ts'
import { linear, lowRankLinear } from './linear.ts'
import { asWeight, emitMatmul } from './matmul.ts'

const DOT: TargetTraits = { ...target, dot: true }
type F32 = Float32Array<ArrayBuffer>
type Leaf = (shape: number[], data: F32 | Uint32Array<ArrayBuffer>) => Tensor

const onGpu = (leaf: Leaf, format: WeightFormat, rows: number, cols: number, w: TestWeight): Weight => ({
  ...{ format, rows, cols },
  data: leaf([w.data.length], w.data),
  scales: leaf([w.scales!.length], w.scales!),
})
/** x @ w^T for one row, and the sums of the terms' sizes. */
function product(x: ArrayLike<number>, w: F32, N: number, from = 0): { sum: Float64Array; size: Float64Array } {
  const K = x.length
  const [sum, size] = [new Float64Array(N), new Float64Array(N)]
  for (let n = 0; n < N; n++)
    for (let k = 0; k < K; k++) {
      const term = x[k] * w[(from + n) * K + k]
      sum[n] += term
      size[n] += Math.abs(term)
    }
  return { sum, size }
}
/** Largest distance in sizes of the sums. */
const distance = (got: F32, want: Float64Array, size: Float64Array): number =>
  got.reduce((most, v, i) => Math.max(most, Math.abs(v - want[i]) / Math.max(size[i], 1e-37)), 0)
const norm = (v: ArrayLike<number>): number => Math.sqrt(Array.from(v).reduce((s, t) => s + t * t, 0))
const apart = (a: F32, b: Float64Array): number => norm(a.map((v, i) => v - b[i])) / norm(b)

/** Of each of these activations one whole group of 8 is zero, one large, one tiny. */
function activations(K: number, seed: number): F32 {
  const x = randn([K], seed)
  return x.map((v, i) => (i >> 3 === 1 ? 0 : i >> 3 === 2 ? 300 * v : i >> 3 === 3 ? 1e-12 * v : v))
}

describe.each(DOT_FORMATS)('%s weight', (format) => {
  test.each([
    [9, 64],
    [2050, 32],
    [70, 832],
  ])('[1, %i] <- %i: residual, bias, and a range of rows', async (N, columns) => {
    const whole = layoutOf(format).unit >= 256 ? 256 : 32
    const K = Math.ceil(columns / whole) * whole
    const w = testWeight(format, N, K, 1)
    const [x, res, bias] = [activations(K, 2), randn([N], 3), randn([N], 4)]
    const out = await run(({ g, leaf }) => {
      const weight = onGpu(leaf, format, N, K, w)
      const tx = leaf([1, K], x)
      const y = linear(tx, weight, { residual: leaf([1, N], res), bias: leaf([N], bias) })
      const part = linear(tx, weight, { range: { from: 4, rows: 5 } })
      expect(g.calls.map((c) => [c.kernel.name, c.flags.includes('dot')])).toEqual(Array(2).fill(['matmul_vec', true]))
      return { y, part }
    }, DOT)
    const exact = product(roundedToBytes(x), w.values, N)
    const added = exact.sum.map((v, i) => v + res[i] + bias[i])
    expect(distance(out.y, added, exact.size.map((v) => v + 2))).toBeLessThan(1e-5) // prettier-ignore
    const part = product(roundedToBytes(x), w.values, 5, 4)
    expect(distance(out.part, part.sum, part.size)).toBeLessThan(1e-5)
    const plain = product(x, w.values, N).sum
    expect(apart(out.y.map((v, i) => v - res[i] - bias[i]), plain)).toBeLessThan(1e-2) // prettier-ignore
  })
})

test('low-rank update by segments beside it: as the plain product within 1e-2', async () => {
  const [N, K, r] = [104, 64, 8]
  const values = { x: randn([K], 1), A: randn([3 * r, K], 3, 0.2), B: randn([N, r], 4) }
  const w = testWeight('q4_1', N, K, 2)
  const build = (traits: TargetTraits) =>
    run(({ g, leaf }) => {
      const weight = onGpu(leaf, 'q4_1', N, K, w)
      const y = lowRankLinear(leaf([1, K], values.x), weight, leaf([3 * r, K], values.A), leaf([N, r], values.B), {
        scale: 0.5,
        segments: [40, 72],
      })
      expect(g.calls.some((c) => c.flags.includes('dot') && c.flags.includes('lora'))).toBe(traits === DOT)
      return { y }
    }, traits)
  const [dot, plain] = [await build(DOT), await build(target)]
  expect(apart(dot.y, Float64Array.from(plain.y))).toBeLessThan(1e-2)
})

test('a row of zeros gives zeros; rows of any size are rounded alike', async () => {
  const [N, K] = [8, 256]
  const w = testWeight('q4_k', N, K, 1)
  const of = async (x: F32) => (await run(({ leaf }) => ({ y: linear(leaf([1, K], x), onGpu(leaf, 'q4_k', N, K, w)) }), DOT)).y
  expect([...(await of(new Float32Array(K)))]).toEqual(Array(N).fill(0))
  const x = randn([K], 2)
  for (const size of [1e-24, 1e24]) {
    const scaled = x.map((v) => v * size)
    const { sum, size: terms } = product(roundedToBytes(scaled), w.values, N)
    expect(distance(await of(scaled), sum, terms)).toBeLessThan(1e-5)
  }
})

test('only one row of packed whole numbers in eights, forward, where it is asked for', () => {
  const calls = (traits: TargetTraits, M: number, format: WeightFormat, o: { K?: number; bOff?: number; layout?: 'nt' | 'nn' } = {}) => {
    const { K = 64, bOff = 0, layout = 'nt' } = o
    const g = new Graph(traits)
    const leaf = (shape: number[]) => g.leaf(new Storage('t', 65536, 'weights'), shape)
    const data = leaf([64, K])
    const b: Weight = format === 'f32' ? asWeight(data) : { format, rows: 64, cols: K, data, scales: leaf([64]) }
    emitMatmul({ layout, a: leaf([8, K]), b, bOff, c: leaf([8, 64]), M, N: 64, K })
    return g.calls[0].flags.includes('dot')
  }
  expect(calls(DOT, 1, 'q4_0')).toBe(true)
  expect(calls({ ...DOT, software: false }, 1, 'q4_0')).toBe(true)
  expect(calls(target, 1, 'q4_0')).toBe(false)
  expect(calls(DOT, 2, 'q4_0')).toBe(false)
  for (const format of ['f32', 'f16', 'nf4'] as const) expect(calls(DOT, 1, format)).toBe(false)
  expect(calls(DOT, 1, 'q4_0', { K: 12 })).toBe(false)
  expect(calls(DOT, 1, 'q4_0', { bOff: 4 })).toBe(false)
  expect(calls(DOT, 1, 'q4_0', { layout: 'nn' })).toBe(false)
})

test('rounding: whole steps of 1/127 of the largest of 8, halves to even', () => {
  const x = Float32Array.of(127, -126.4, 63.5, 64.5, -0.5, 0, 1.5, 0.49, ...Array<number>(8).fill(0))
  expect([...roundedToBytes(x)].map((v) => v + 0)).toEqual([127, -126, 64, 64, 0, 0, 2, 0, ...Array<number>(8).fill(0)])
})
