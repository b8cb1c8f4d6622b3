/** Every tile that a device may be tuned to, in every layout, against sums in double precision. f32 tolerance: 1e-4 relative, sums of up to 1100 terms. */
import { describe, expect, test } from 'vitest'
import { closeness, randn, run, target } from '../../../test/gpu.ts'
import { testWeight } from '../../../test/weights.ts'
import type { TargetTraits, TunedMatmul } from '../../gpu/kernel.ts'
import { chooseMatmul, type Layout, matmulCandidates, tunedTo } from '../../kernels/matmul.ts'
import { defaultTile, matmulTileKernel, splitOf, TILES } from '../../kernels/matmul_tile.ts'
import { ScalarInput } from '../../tensor/graph.ts'
import { asWeight, emitMatmul } from './matmul.ts'

const hardware: TargetTraits = { ...target, software: false }
const onlyWith = (choice: TunedMatmul): TargetTraits => ({ ...hardware, matmuls: tunedTo(choice) })

/** op(a) @ op(b) in double precision. */
function product(layout: Layout, a: ArrayLike<number>, b: ArrayLike<number>, M: number, N: number, K: number): Float64Array {
  const out = new Float64Array(M * N)
  for (let m = 0; m < M; m++)
    for (let k = 0; k < K; k++) {
      const x = layout === 'tn' ? a[k * M + m] : a[m * K + k]
      for (let n = 0; n < N; n++) out[m * N + n] += x * (layout === 'nt' ? b[n * K + k] : b[k * N + n])
    }
  return out
}
const name = (t: TunedMatmul): string => Object.values(t).join(' ')

const ALL = matmulCandidates(hardware)
const FRAGMENTS = ALL.filter((t) => t.family === 'matrix')
/** Fully tested: what is used untuned, a tile without workgroup memory, and subgroup matrices. Software adapters take seconds to compile each variant of the rest. */
const WHOLE = [...ALL.slice(0, 2), ...ALL.filter((t) => t.family === 'reg').slice(0, 1), ...FRAGMENTS.slice(0, 1)]
describe.each(WHOLE.map((t) => [name(t), t] as const))('%s', (_, tuned) => {
  // Whole tiles, ragged ones, and an a whose rows are no multiple of 4 (TN: M; NN: K).
  const shapes = [
    ['nt', 130, 132, 68],
    ['nn', 70, 196, 37],
    ['nn', 129, 128, 64],
    ['tn', 131, 68, 40],
    ['tn', 128, 72, 33],
  ] as const
  test.each(shapes)('%s [%i, %i] over %i: alpha, residual, accumulation and live sizes', async (layout, M, N, K) => {
    const a = randn([M, K], 1)
    const b = randn([N, K], 2)
    const c = randn([M, N], 3)
    const out = await run(({ g, leaf }) => {
      const ta = leaf(layout === 'tn' ? [K, M] : [M, K], a)
      const tb = asWeight(leaf(layout === 'nt' ? [N, K] : [K, N], b))
      const tc = leaf([M, N], c)
      emitMatmul({ layout, a: ta, b: tb, c: tc, M, N, K, alpha: 0.5, accumulate: true })
      const plain = g.node('y', [M, N], [ta], null, { rows: M })
      const less = new ScalarInput(layout === 'tn' ? M : M - 5)
      emitMatmul({ layout, a: ta, b: tb, c: plain, M: less, N, K })
      if (tuned.family !== 'sgk') expect(g.calls[0].kernel).toBe(matmulTileKernel)
      expect(g.calls[0].flags.some((f) => f.startsWith('matrix_'))).toBe(tuned.family === 'matrix')
      expect(g.calls[0].flags.includes('direct')).toBe(tuned.family === 'reg')
      return { c: tc, plain }
    }, onlyWith(tuned))
    const want = product(layout, a, b, M, N, K)
    expect(
      closeness(
        out.c,
        want.map((v, i) => 0.5 * v + c[i]),
        1e-4,
        1e-4,
      ),
    ).toBeLessThan(1)
    const rows = layout === 'tn' ? M : M - 5
    expect(closeness(out.plain.subarray(0, rows * N), want.subarray(0, rows * N), 1e-4, 1e-4)).toBeLessThan(1)
  })

  test.each(['q4_0', 'q8_0', 'f16'] as const)(
    '%s weight with a low-rank term in two segments, bias and residual, and its transpose',
    async (format) => {
      const [M, N, K, R] = [67, 100, 64, 8]
      const w = testWeight(format, N, K, 1)
      const [x, h, lb, bias, r, dy] = [[M, K], [M, 2 * R], [N, R], [N], [M, N], [M, N]].map((s, i) => randn(s, 10 + i))
      const [hb, lbT] = [randn([M, R], 20), randn([R, K], 21)]
      const out = await run(({ g, leaf }) => {
        const scales = w.scales && leaf([w.scales.length], w.scales)
        const weight = { format, rows: N, cols: K, data: leaf([w.data.length], w.data), scales }
        const y = g.node('y', [M, N], [], null, { rows: M })
        const lowRank = { h: leaf([M, 2 * R], h), lb: leaf([N, R], lb), R, segments: [36] }
        emitMatmul({
          layout: 'nt',
          a: leaf([M, K], x),
          b: weight,
          c: y,
          M,
          N,
          K,
          lowRank,
          bias: leaf([N], bias),
          residual: leaf([M, N], r),
        })
        const dx = g.node('dx', [M, K], [], null, { rows: M })
        const back = { h: leaf([M, R], hb), lb: leaf([R, K], lbT), R, segments: [] }
        emitMatmul({ layout: 'nn', a: leaf([M, N], dy), b: weight, c: dx, M, N: K, K: N, lowRank: back })
        return { y, dx }
      }, onlyWith(tuned))
      const y = product('nt', x, w.values, M, N, K)
      for (let m = 0; m < M; m++)
        for (let n = 0; n < N; n++) {
          for (let q = 0; q < R; q++) y[m * N + n] += h[m * 2 * R + (n >= 36 ? R : 0) + q] * lb[n * R + q]
          y[m * N + n] += bias[n] + r[m * N + n]
        }
      expect(closeness(out.y, y, 1e-4, 1e-4)).toBeLessThan(1)
      const dx = product('nn', dy, w.values, M, K, N)
      const low = product('nn', hb, lbT, M, K, R)
      expect(
        closeness(
          out.dx,
          dx.map((v, i) => v + low[i]),
          1e-4,
          1e-4,
        ),
      ).toBeLessThan(1)
    },
  )
})

test.each(ALL.filter((t) => !WHOLE.includes(t)).map((t) => [name(t), t] as const))('%s: one product', async (_, tuned) => {
  const [M, N, K] = [140, 132, 40]
  const [a, b] = [randn([M, K], 1), randn([K, N], 2)]
  const out = await run(({ g, leaf }) => {
    const c = g.node('c', [M, N], [], null, { rows: M })
    emitMatmul({ layout: 'nn', a: leaf([M, K], a), b: asWeight(leaf([K, N], b)), c, M, N, K })
    return { c }
  }, onlyWith(tuned))
  expect(closeness(out.c, product('nn', a, b, M, N, K), 1e-4, 1e-4)).toBeLessThan(1)
})

/** Largest error of a product of numbers of one size, over the sum of its terms' sizes. */
async function errorAt(size: number, traits: TargetTraits, gradient = false): Promise<number> {
  const [M, N, K] = [72, 72, 256]
  const [a, b] = [randn([M, K], 1, size), randn([N, K], 2)]
  const out = await run(({ g, leaf }) => {
    const c = g.node('c', [M, N], [], null, { rows: M })
    emitMatmul({ layout: 'nt', a: leaf([M, K], a), b: asWeight(leaf([N, K], b)), c, M, N, K, gradient })
    return { c }
  }, traits)
  const [want, sizes] = [product('nt', a, b, M, N, K), product('nt', a.map(Math.abs), b.map(Math.abs), M, N, K)]
  return Math.max(...want.map((v, i) => Math.abs(out.c[i] - v) / sizes[i]))
}
describe.skipIf(FRAGMENTS.length === 0)(
  'subgroup matrices (skipped where the adapter has none: ETUDE_EXPERIMENTAL=1 asks for them)',
  () => {
    // Of 21 bits of each factor a sum of 256 keeps as many, errors being of both signs; of 11 bits (below 2^-14, in f16) as many likewise.
    test.each([
      [1, 2 ** -20],
      [1e4, 2 ** -20],
      [1e-3, 2 ** -17],
      [1e-6, 2 ** -11],
    ])('factors of about %d: relative error at most %d', async (size, most) => {
      const error = await errorAt(size, onlyWith(FRAGMENTS[0]))
      console.log(
        `subgroup matrices, factors of ${size}: ${error.toExponential(1)}; without: ${(await errorAt(size, hardware)).toExponential(1)}`,
      )
      expect(error).toBeLessThan(most)
    })

    test('gradients are lifted to where f16 keeps more of them', async () => {
      expect(await errorAt(1e-6, onlyWith(FRAGMENTS[0]), true)).toBeLessThan(2 ** -18)
    })

    test('factors beyond f16 are not taken for others: the result is not finite, or right', async () => {
      const error = await errorAt(1e6, onlyWith(FRAGMENTS[0]))
      expect(Number.isFinite(error) ? error : 0).toBeLessThan(2 ** -20)
    })
  },
)

describe('a long inner dimension over a small output', () => {
  test.each([false, true])('is split, and added up in the same order each time; accumulate %s', async (accumulate) => {
    const [M, N, K] = [24, 64, 1100]
    const [a, b, c] = [randn([K, M], 1), randn([K, N], 2), randn([M, N], 3)]
    const go = (live: number) =>
      run(({ g, leaf }) => {
        const tc = leaf([M + 1, N], Float32Array.from([...new Float32Array(N), ...c]))
        emitMatmul({
          layout: 'tn',
          a: leaf([K, M], a),
          b: asWeight(leaf([K, N], b)),
          c: tc,
          cOff: N,
          M,
          N,
          K: new ScalarInput(live),
          alpha: 2,
          accumulate,
        })
        expect(g.calls.map((k) => k.kernel.name)).toEqual(['matmul_tile', 'matmul_parts'])
        expect(g.calls[0].constants.SPLIT).toBeGreaterThan(1)
        return { c: tc }
      }, hardware)
    for (const live of [K, 300, 7]) {
      const want = product('tn', a.subarray(0, live * M), b.subarray(0, live * N), M, N, live)
      const got = await go(live)
      expect([...got.c.subarray(0, N)].every((v) => v === 0)).toBe(true)
      expect(
        closeness(
          got.c.subarray(N),
          want.map((v, i) => 2 * v + (accumulate ? c[i] : 0)),
          1e-4,
          1e-4,
        ),
      ).toBeLessThan(1)
      expect(await go(live)).toEqual(got)
    }
  })
  test('only where the output leaves the GPU idle', () => {
    const shape = { layout: 'tn', plain: true, packed: false, aligned: true, vectors: true, segments: [] } as const
    const split = (M: number, N: number, K: number) =>
      (chooseMatmul(hardware, { ...shape, M, N, K }).constants as Readonly<Record<string, number>>).SPLIT
    expect(split(1536, 576, 1024)).toBe(1)
    expect(split(8, 576, 1024)).toBeGreaterThan(1)
    expect(split(8, 576, 100)).toBe(1)
    expect(splitOf(TILES[0], 64, 64, 1 << 20)).toBe(8)
    expect([defaultTile(1024, 1024), defaultTile(64, 64)]).toEqual([TILES[0], TILES[1]])
  })
})

test('every tile stays within 256 invocations and 16 KiB, and there are at most 12 candidates', () => {
  expect(matmulCandidates({ ...hardware, subgroup: 32 }).length).toBeLessThanOrEqual(12)
  for (const { BM, BN, BK, TM, TN } of TILES) {
    expect((BM / TM) * (BN / TN)).toBeLessThanOrEqual(256)
    expect((BM + BN) * BK * 4).toBeLessThanOrEqual(16384)
    expect([BM % TM, BN % TN, TM % 4, TN % 4, BK % 4]).toEqual([0, 0, 0, 0, 0])
  }
})
