/** Truncated factorisations against NumPy (test/golden/decompose.py): singular values and reconstruction errors. Factors are float32 (6e-8 of each value);
 * 1e-4 is for noise larger than the Krylov space, whose singular values lie close together. */
import { describe, expect, test } from 'vitest'
import { goldenJson } from '../../test/files.ts'
import { truncatedQr, truncatedSvd } from './decompose.ts'

interface Case {
  readonly N: number
  readonly K: number
  readonly rank: number | null
  readonly r: number
  readonly singular: readonly number[]
  readonly svd_error: number
  readonly qr_error: number
  readonly norm: number
}
function draw(count: number, seed: number): Float64Array {
  let state = seed
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32) * 2 - 1
  })
}
function matrix({ N, K, rank }: Case): Float32Array {
  if (rank === null) return Float32Array.from(draw(N * K, 7))
  const W = new Float64Array(N * K)
  for (let j = 0; j < rank; j++) {
    const [u, v] = [draw(N, 10 * j + 1), draw(K, 10 * j + 2)]
    for (let i = 0; i < N * K; i++) W[i] += (u[Math.floor(i / K)] * v[i % K]) / (j + 1)
  }
  return Float32Array.from(W)
}
const norm = (a: ArrayLike<number>): number => {
  let s = 0
  for (let i = 0; i < a.length; i++) s += a[i] ** 2
  return Math.sqrt(s)
}
/** W - B A. */
function residual(W: Float32Array, { A, B }: { A: Float32Array; B: Float32Array }, { N, K, r }: Case): Float64Array {
  expect([A.length, B.length]).toEqual([r * K, N * r])
  const out = Float64Array.from(W)
  for (let n = 0; n < N; n++) for (let j = 0; j < r; j++) for (let k = 0; k < K; k++) out[n * K + k] -= B[n * r + j] * A[j * K + k]
  return out
}
const column = (B: Float32Array, r: number, j: number): Float32Array => B.filter((_, i) => i % r === j)

describe.each((goldenJson('decompose.json') as Case[]).map((c) => [`[${c.N}, ${c.K}], rank ${c.rank ?? 'full'}, r = ${c.r}`, c] as const))(
  '%s',
  (_, c) => {
    const W = matrix(c)
    test('the matrix is the one of the fixture', () => expect(norm(W)).toBeCloseTo(c.norm, 9))
    test('singular values and what remains', () => {
      const f = truncatedSvd(W, c.N, c.K, c.r)
      for (const v of [...f.A, ...f.B]) expect(Number.isFinite(v)).toBe(true)
      for (let j = 0; j < c.r; j++) {
        // B = U √S, A = √S V^T: both have √σ as the length of their j-th vector.
        const sigma = c.singular[j] ?? 0
        const [a, b] = [norm(f.A.subarray(j * c.K, (j + 1) * c.K)), norm(column(f.B, c.r, j))]
        expect(Math.abs(a * b - sigma), `singular value ${j}`).toBeLessThan(1e-4 * sigma + 1e-6 * c.norm + 1e-12)
        if (sigma > 1e-3) expect(Math.abs(a - b) / b).toBeLessThan(1e-5)
        for (let i = 0; i < j; i++) {
          const other = column(f.B, c.r, i)
          expect(Math.abs(column(f.B, c.r, j).reduce((s, v, n) => s + v * other[n], 0)), 'orthogonal').toBeLessThan(
            1e-5 * (c.singular[0] + 1e-9),
          )
        }
      }
      expect(norm(residual(W, f, c))).toBeLessThan(c.svd_error * 1.0001 + 1e-6 * (c.norm + 1e-9))
      expect(truncatedSvd(W, c.N, c.K, c.r), 'the same again').toEqual(f)
    })
    test('QR', () => {
      const f = truncatedQr(W, c.N, c.K, c.r)
      for (const v of [...f.A, ...f.B]) expect(Number.isFinite(v)).toBe(true)
      expect(Math.abs(norm(residual(W, f, c)) - c.qr_error)).toBeLessThan(1e-6 * (c.norm + 1e-9))
      // R is upper triangular; Q's columns have length 1, or 0 beyond the rank.
      for (let j = 0; j < c.r; j++)
        for (let k = 0; k < Math.min(j, c.K); k++) expect(Math.abs(f.A[j * c.K + k])).toBeLessThan(1e-6 * (c.norm + 1e-9))
      for (let j = 0; j < Math.min(c.r, c.singular.length); j++) {
        const length = norm(column(f.B, c.r, j))
        expect(Math.min(Math.abs(length - 1), length)).toBeLessThan(1e-6)
      }
    })
  },
)
