/** @file Few rows on a GPU: the family that token by token generation takes, against sums in double precision and the family it stands in for.
 * Tolerance 1e-4 relative and absolute: float32 sums of up to 576 terms. */
import { describe, expect, test } from 'vitest'
import { closeness, randn, run, target } from '../../../test/gpu.ts'
import { testWeight } from '../../../test/weights.ts'
import { vecShape } from '../../kernels/matmul_vec.ts'
import { isPacked, layoutOf, WEIGHT_FORMATS, type WeightFormat } from '../../kernels/weight_formats.ts'
import { Graph, ScalarInput, type TargetTraits } from '../../tensor/graph.ts'
import { Storage } from '../../tensor/storage.ts'
import type { Weight } from '../../tensor/weight.ts'
import { linear, lowRankLinear } from './linear.ts'
import { asWeight, emitMatmul } from './matmul.ts'

const GPU: TargetTraits = { ...target, software: false, subgroup: 0 }

function nt(a: ArrayLike<number>, b: ArrayLike<number>, M: number, N: number, K: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(M * N)
  for (let m = 0; m < M; m++) for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) out[m * N + n] += a[m * K + k] * b[n * K + k]
  return out
}
const whole = (format: WeightFormat, K: number): number => {
  const block = !isPacked(format) ? 1 : layoutOf(format).unit >= 256 && format !== 'nf4' ? 256 : 32
  return Math.ceil(K / block) * block
}

describe.each(WEIGHT_FORMATS)('%s weight', (format) => {
  test.each([
    [1, 9, 64],
    [2, 2050, 32],
    [4, 70, 576],
  ])('[%i, %i] <- %i: residual, and a range of rows', async (M, N, columns) => {
    const K = whole(format, columns)
    const w = testWeight(format, N, K, 1)
    const [x, res] = [randn([M, K], 2), randn([M, N], 3)]
    const out = await run(({ g, leaf }) => {
      const data = leaf(format === 'f32' ? [N, K] : [w.data.length], w.data)
      const weight: Weight = { format, rows: N, cols: K, data, scales: w.scales && leaf([w.scales.length], w.scales) }
      const tx = leaf([M, K], x)
      const y = linear(tx, weight, { residual: leaf([M, N], res) })
      const part = linear(tx, weight, { range: { from: 4, rows: 5 } })
      expect(g.calls.map((c) => c.kernel.name)).toEqual(['matmul_vec', 'matmul_vec'])
      return { y, part }
    }, GPU)
    const plain = nt(x, w.values, M, N, K)
    expect(closeness(out.y, plain.map((v, i) => v + res[i]), 1e-4, 1e-4)).toBeLessThan(1) // prettier-ignore
    expect(closeness(out.part, nt(x, w.values.slice(4 * K, 9 * K), M, 5, K), 1e-4, 1e-4)).toBeLessThan(1)
  })
})

test('low-rank update by segments, bias, a factor, adding up: as the family for many rows', async () => {
  const [M, N, K, r] = [3, 104, 64, 8]
  const values = { x: randn([M, K], 1), w: randn([N, K], 2), A: randn([3 * r, K], 3, 0.2), B: randn([N, r], 4), bias: randn([N], 5) }
  const build = (traits: TargetTraits) =>
    run(({ g, leaf }) => {
      const w = asWeight(leaf([N, K], values.w))
      const x = leaf([M, K], values.x)
      const [A, B] = [leaf([3 * r, K], values.A), leaf([N, r], values.B)]
      const y = lowRankLinear(x, w, A, B, { scale: 0.5, segments: [40, 72], bias: leaf([N], values.bias) })
      emitMatmul({ layout: 'nt', a: x, b: w, c: y, M, N, K, alpha: -2, accumulate: true })
      expect(g.calls.some((c) => c.kernel.name === 'matmul_vec')).toBe(traits === GPU)
      return { y }
    }, traits)
  const [vec, other] = [await build(GPU), await build(target)]
  expect(closeness(vec.y, other.y, 1e-4, 1e-4)).toBeLessThan(1)
})

test('fewer rows than planned, K that is no multiple of 8, output at an offset', async () => {
  const [N, K] = [33, 12]
  const [w, x] = [randn([N, K], 1), randn([4, K], 2)]
  const out = await run(({ g, leaf }) => {
    const y = leaf([4, N + 7], new Float32Array(4 * (N + 7)))
    emitMatmul({
      layout: 'nt',
      a: leaf([4, K], x, { rows: new ScalarInput(3) }),
      b: asWeight(leaf([N, K], w)),
      c: y,
      cOff: 7,
      M: new ScalarInput(3),
      N,
      K,
    })
    expect(g.calls[0].kernel.name).toBe('matmul_vec')
    return { y }
  }, GPU)
  const want = nt(x, w, 3, N, K)
  const got = Array.from({ length: 4 }, (_, m) => Array.from(out.y.subarray(m * (N + 7), (m + 1) * (N + 7))))
  for (const [m, row] of got.entries()) {
    expect(row.slice(0, 7).every((v) => v === 0)).toBe(true)
    expect(closeness(row.slice(7), m < 3 ? want.subarray(m * N, (m + 1) * N) : new Float64Array(N))).toBeLessThan(1)
  }
})

test('rows that begin anywhere, and more than four of them, go to another family', () => {
  const g = new Graph(GPU)
  const leaf = (shape: number[]) => g.leaf(new Storage('t', 65536, 'weights'), shape)
  const call = (M: number, o: { aOff?: number | ScalarInput; lda?: number }) =>
    emitMatmul({ layout: 'nt', a: leaf([8, 8]), b: asWeight(leaf([8, 8])), c: leaf([8, 8]), M, N: 8, K: 8, ...o })
  call(4, {})
  call(5, {})
  call(1, { aOff: 2 })
  call(1, { aOff: new ScalarInput(8) })
  call(1, { lda: 9 })
  expect(g.calls.map((c) => c.kernel.name)).toEqual(['matmul_vec', ...Array<string>(4).fill('matmul_tile')])
})

test('teams leave at most a tenth of their lanes idle on the widths of real models', () => {
  for (const K of [256, 576, 896, 1536, 2048, 4864, 8192]) {
    const { LANES, QUADS } = vecShape(1, 1024, K)
    const steps = Math.ceil(K / (4 * QUADS * LANES))
    expect(K / (4 * QUADS * LANES * steps)).toBeGreaterThanOrEqual(0.9)
    expect(LANES).toBeGreaterThanOrEqual(8)
  }
})
