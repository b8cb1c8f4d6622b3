/** Linear layers in every weight format and layout, against sums in double precision. f32 tolerance: 1e-4 relative, sums of up to 700 terms. */
import { describe, expect, test } from 'vitest'
import { closeness, gpu, randn, run, target } from '../../../test/gpu.ts'
import { testWeight } from '../../../test/weights.ts'
import { isPacked, layoutOf, WEIGHT_FORMATS, type WeightFormat } from '../../kernels/weight_formats.ts'
import { Graph, ScalarInput, type Tensor } from '../../tensor/graph.ts'
import { Session, SessionPlan } from '../../tensor/program.ts'
import { Storage } from '../../tensor/storage.ts'
import type { Weight } from '../../tensor/weight.ts'
import { backward } from '../backward.ts'
import { inverseRowNorm, linear, lowRankLinear } from './linear.ts'
import { matmul } from './matmul.ts'

/** [M, N] = a [M, K] @ b [N, K]^T in double precision. */
function nt(a: ArrayLike<number>, b: ArrayLike<number>, M: number, N: number, K: number): Float64Array {
  const out = new Float64Array(M * N)
  for (let m = 0; m < M; m++) for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) out[m * N + n] += a[m * K + k] * b[n * K + k]
  return out
}
function transpose(a: ArrayLike<number>, R: number, C: number): Float64Array {
  return Float64Array.from({ length: R * C }, (_, i) => a[(i % R) * C + Math.floor(i / R)])
}
/** Columns in whole blocks. */
const whole = (format: WeightFormat, K: number): number => {
  const block = !isPacked(format) ? 1 : layoutOf(format).unit >= 256 && format !== 'nf4' ? 256 : 32
  return Math.ceil(K / block) * block
}
const SHAPES = [
  [1, 64, 64],
  [33, 96, 160],
  [70, 36, 64],
  [130, 320, 96],
] as const

/** All shapes for one format of each way of reading; what is left differs from one of these in the decoding alone. */
const EVERY_SHAPE: readonly WeightFormat[] = ['f32', 'f16', 'q4_1', 'q8_0']
describe.each(WEIGHT_FORMATS)('%s weight', (format) => {
  const all = EVERY_SHAPE.includes(format)
  test.each(all ? SHAPES : SHAPES.slice(1, 2))('linear [%i, %i] -> %i: value, gradient of x, residual and range', async (M, N, K) => {
    const Kq = whole(format, K)
    const w = testWeight(format, N, Kq, 1)
    const x = randn([M, Kq], 2)
    const res = randn([M, N], 3)
    const dy = randn([M, N], 4)
    const from = 4
    const out = await run(({ leaf }) => {
      const weight: Weight = {
        format,
        rows: N,
        cols: Kq,
        data: leaf(format === 'f32' ? [N, Kq] : [w.data.length], w.data),
        scales: w.scales && leaf([w.scales.length], w.scales),
      }
      const tx = leaf([M, Kq], x, { grad: true })
      const r = leaf([M, N], res, { grad: true })
      const y = linear(tx, weight, { residual: r })
      backward(y, leaf([M, N], dy))
      return { y, dx: tx.sink!, dr: r.sink!, part: linear(tx, weight, { range: { from, rows: 8 } }) }
    })
    const want = nt(x, w.values, M, N, Kq).map((v, i) => v + res[i])
    expect(closeness(out.y, want, 1e-4, 1e-4)).toBeLessThan(1)
    expect(closeness(out.dx, nt(dy, transpose(w.values, N, Kq), M, Kq, N), 1e-4, 1e-4)).toBeLessThan(1)
    expect(closeness(out.dr, dy)).toBeLessThan(1)
    expect(closeness(out.part, nt(x, w.values.slice(from * Kq, (from + 8) * Kq), M, 8, Kq), 1e-4, 1e-4)).toBeLessThan(1)
  })

  const updates = [
    [8, [40, 72], 104],
    [8, [] as number[], 96],
    [4, [32, 64], 96],
    [3, [36], 100],
  ] as const
  test.each(all ? updates : updates.slice(0, 1))('low-rank update r=%i, segments %j: value and all gradients', async (r, segments, N) => {
    const [M, K, scale] = [37, whole(format, 64), 0.5]
    const S = segments.length + 1
    const w = testWeight(format, N, K, 1)
    const x = randn([M, K], 2)
    const A = randn([S * r, K], 5, 0.2)
    const B = randn([N, r], 6, 0.2)
    const dy = randn([M, N], 4)
    const out = await run(({ leaf }) => {
      const weight: Weight = {
        format,
        rows: N,
        cols: K,
        data: leaf(format === 'f32' ? [N, K] : [w.data.length], w.data),
        scales: w.scales && leaf([w.scales.length], w.scales),
      }
      const [tx, tA, tB] = [leaf([M, K], x, { grad: true }), leaf([S * r, K], A, { grad: true }), leaf([N, r], B, { grad: true })]
      const y = lowRankLinear(tx, weight, tA, tB, { scale, segments })
      backward(y, leaf([M, N], dy))
      return { y, dx: tx.sink!, dA: tA.sink!, dB: tB.sink!, norm: inverseRowNorm(weight, tA, tB, { scale, segments }) }
    })
    // W' = W + s B A_segment
    const seg = (n: number) => segments.filter((s) => n >= s).length
    const full = Float64Array.from(w.values)
    for (let n = 0; n < N; n++)
      for (let k = 0; k < K; k++) for (let j = 0; j < r; j++) full[n * K + k] += scale * B[n * r + j] * A[(seg(n) * r + j) * K + k]
    expect(closeness(out.y, nt(x, full, M, N, K), 1e-4, 1e-4)).toBeLessThan(1)
    expect(closeness(out.dx, nt(dy, transpose(full, N, K), M, K, N), 1e-4, 1e-4)).toBeLessThan(1)
    const G = nt(transpose(dy, M, N), transpose(x, M, K), N, K, M) // dW', [N, K]
    const dA = new Float64Array(S * r * K)
    const dB = new Float64Array(N * r)
    for (let n = 0; n < N; n++)
      for (let j = 0; j < r; j++)
        for (let k = 0; k < K; k++) {
          dA[(seg(n) * r + j) * K + k] += scale * B[n * r + j] * G[n * K + k]
          dB[n * r + j] += scale * A[(seg(n) * r + j) * K + k] * G[n * K + k]
        }
    expect(closeness(out.dA, dA, 1e-4, 1e-4)).toBeLessThan(1)
    expect(closeness(out.dB, dB, 1e-4, 1e-4)).toBeLessThan(1)
    const norm = Float64Array.from({ length: N }, (_, n) => 1 / Math.hypot(...full.subarray(n * K, n * K + K)))
    expect(closeness(out.norm, norm)).toBeLessThan(1)
  })
})

test('a trained f32 weight collects its gradient over two uses, and a dropped-out low-rank input has its own', async () => {
  const [M, N, K, r] = [21, 48, 32, 4]
  const [w, x, dy] = [randn([N, K], 1), randn([M, K], 2), randn([M, N], 3)]
  const [A, B, xl] = [randn([r, K], 4), randn([N, r], 5), randn([M, K], 6)]
  const out = await run(({ leaf }) => {
    const tw = leaf([N, K], w, { grad: true })
    const weight: Weight = { format: 'f32', rows: N, cols: K, data: tw, scales: null }
    const tx = leaf([M, K], x)
    for (let i = 0; i < 2; i++) backward(linear(tx, weight), leaf([M, N], dy))
    const frozen: Weight = { format: 'f32', rows: N, cols: K, data: leaf([N, K], w), scales: null }
    const [gx, gxl, tA, tB] = [
      leaf([M, K], x, { grad: true }),
      leaf([M, K], xl, { grad: true }),
      leaf([r, K], A, { grad: true }),
      leaf([N, r], B, { grad: true }),
    ]
    backward(lowRankLinear(gx, frozen, tA, tB, { scale: 2, segments: [], xLowRank: gxl }), leaf([M, N], dy))
    return { dw: tw.sink!, dx: gx.sink!, dxl: gxl.sink! }
  })
  expect(
    closeness(
      out.dw,
      nt(transpose(dy, M, N), transpose(x, M, K), N, K, M).map((v) => 2 * v),
      1e-4,
      1e-4,
    ),
  ).toBeLessThan(1)
  expect(closeness(out.dx, nt(dy, transpose(w, N, K), M, K, N), 1e-4, 1e-4)).toBeLessThan(1)
  const BA = nt(B, transpose(A, r, K), N, K, r)
  expect(
    closeness(
      out.dxl,
      nt(dy, transpose(BA, N, K), M, K, N).map((v) => 2 * v),
      1e-4,
      1e-4,
    ),
  ).toBeLessThan(1)
})

test('matmul in its three layouts has the gradients of its formula', async () => {
  const [M, N, K] = [13, 20, 12]
  const [a, b, dy] = [randn([M, K], 1), randn([N, K], 2), randn([M, N], 3)]
  const at = Float32Array.from(transpose(a, M, K))
  const bt = Float32Array.from(transpose(b, N, K))
  for (const layout of ['nt', 'nn', 'tn'] as const) {
    const out = await run(({ leaf }) => {
      const ta = layout === 'tn' ? leaf([K, M], at, { grad: true }) : leaf([M, K], a, { grad: true })
      const tb = layout === 'nt' ? leaf([N, K], b, { grad: true }) : leaf([K, N], bt, { grad: true })
      const y = matmul(ta, tb, { transA: layout === 'tn', transB: layout === 'nt', alpha: 0.5 })
      backward(y, leaf([M, N], dy))
      return { y, da: ta.sink!, db: tb.sink! }
    })
    const da = nt(dy, transpose(b, N, K), M, K, N).map((v) => 0.5 * v)
    const db = nt(transpose(dy, M, N), transpose(a, M, K), N, K, M).map((v) => 0.5 * v)
    expect(
      closeness(
        out.y,
        nt(a, b, M, N, K).map((v) => 0.5 * v),
        1e-4,
        1e-4,
      ),
      layout,
    ).toBeLessThan(1)
    expect(closeness(out.da, layout === 'tn' ? transpose(da, M, K) : da, 1e-4, 1e-4), layout).toBeLessThan(1)
    expect(closeness(out.db, layout === 'nt' ? db : transpose(db, N, K), 1e-4, 1e-4), layout).toBeLessThan(1)
  }
})

test('a replay with fewer live rows does only their work, on every kernel family', async () => {
  for (const t of [target, { ...target, software: false }, { ...target, software: true, subgroup: 0 }]) {
    const g = new Graph(t)
    const [M, N, K] = [40, 32, 32]
    const live = new ScalarInput(M)
    const [x, w] = [randn([M, K], 1), randn([N, K], 2)]
    const [sx, sw] = [new Storage('x', M * K * 4, 'batch').allocate(gpu), new Storage('w', N * K * 4, 'weights').allocate(gpu)]
    sx.write(x)
    sw.write(w)
    const tx: Tensor = g.leaf(sx, [M, K], { rows: live })
    const y = linear(tx, { format: 'f32', rows: N, cols: K, data: g.leaf(sw, [N, K]), scales: null })
    const session = await Session.create(gpu, new SessionPlan([{ name: 'live', graph: g, keep: [y] }]))
    session.programs[0].run()
    expect(closeness(await session.programs[0].read(y), nt(x, w, M, N, K), 1e-4, 1e-4)).toBeLessThan(1)
    sx.write(new Float32Array(M * K))
    live.value = 17
    session.programs[0].run()
    const after = await session.programs[0].read(y)
    expect(after.slice(0, 17 * N).every((v) => v === 0)).toBe(true)
    expect(closeness(after.slice(17 * N), nt(x, w, M, N, K).slice(17 * N), 1e-4, 1e-4)).toBeLessThan(1)
    session.destroy()
    for (const s of [sx, sw]) s.destroy()
  }
})
