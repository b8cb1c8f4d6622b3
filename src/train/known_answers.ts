/** @file Small products and attention in float64, forward and backward: what the paths of a device must come to. */

/** Values that every sum sees in full: no two alike, signs mixed; exact in 16 bits, or, in parts of 23, not. */
export const values = (n: number, seed: number, part = 32): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: n }, (_, i) => (((i * 37 + seed * 11) % 61) - 30) / part)

/** scale * a b: [M, N]. An operand that is `across` lies transposed. */
export function product(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  [M, N, K]: readonly [M: number, N: number, K: number],
  { aAcross = false, bAcross = false, scale = 1 } = {},
): Float64Array {
  const out = new Float64Array(M * N)
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++) {
      let sum = 0
      for (let k = 0; k < K; k++) sum += a[aAcross ? k * M + m : m * K + k] * b[bAcross ? n * K + k : k * N + n]
      out[m * N + n] = scale * sum
    }
  return out
}

const plus = (a: Float64Array, b: Float64Array): Float64Array => a.map((v, i) => v + b[i])

export interface LowRank {
  readonly x: Float32Array
  readonly w: Float32Array
  readonly a: Float32Array
  readonly b: Float32Array
  readonly dy: Float32Array
  readonly scale: number
  readonly sizes: { readonly M: number; readonly N: number; readonly K: number; readonly r: number }
}
/** x Wᵀ + s (x Aᵀ) Bᵀ and, for dy, its gradients by x, A and B (https://arxiv.org/abs/2106.09685, section 4.1). x: [M, K], W: [N, K], A: [r, K], B: [N, r]. */
export function lowRank({ x, w, a, b, dy, scale, sizes: { M, N, K, r } }: LowRank) {
  const h = product(x, a, [M, r, K], { bAcross: true, scale })
  const u = product(dy, b, [M, r, N], { scale })
  return {
    y: plus(product(x, w, [M, N, K], { bAcross: true }), product(h, b, [M, N, r], { bAcross: true })),
    dx: plus(product(dy, w, [M, K, N]), product(u, a, [M, K, r])),
    da: product(u, x, [r, K, M], { aAcross: true }),
    db: product(dy, h, [N, r, M], { aAcross: true }),
  }
}

export interface Attended {
  /** [T, (heads + 2) D]: queries of the heads, then the keys and the values that they share. */
  readonly qkv: Float32Array
  readonly dout: Float32Array
  readonly sizes: { readonly T: number; readonly D: number; readonly heads: number }
}
/** Causal softmax attention of several heads over shared keys and values, and its gradient by [q | k | v]. */
export function attended({ qkv, dout, sizes: { T, D, heads } }: Attended): { readonly out: Float64Array; readonly dqkv: Float64Array } {
  const [width, scale] = [(heads + 2) * D, 1 / Math.sqrt(D)]
  const [out, dqkv] = [new Float64Array(T * heads * D), new Float64Array(T * width)]
  const [K, V] = [heads * D, (heads + 1) * D]
  const dot = (n: number, f: (i: number) => number): number => Array.from({ length: n }, (_, i) => f(i)).reduce((s, v) => s + v, 0)
  for (let head = 0; head < heads; head++)
    for (let t = 0; t < T; t++) {
      const [q, o] = [t * width + head * D, t * heads * D + head * D]
      const raw = Array.from({ length: t + 1 }, (_, s) => Math.exp(scale * dot(D, (d) => qkv[q + d] * qkv[s * width + K + d])))
      const total = dot(t + 1, (s) => raw[s])
      const p = raw.map((v) => v / total)
      for (let d = 0; d < D; d++) out[o + d] = dot(t + 1, (s) => p[s] * qkv[s * width + V + d])
      const dp = p.map((_, s) => dot(D, (d) => dout[o + d] * qkv[s * width + V + d]))
      const mean = dot(t + 1, (s) => p[s] * dp[s])
      p.forEach((ps, s) => {
        const ds = scale * ps * (dp[s] - mean)
        for (let d = 0; d < D; d++) {
          dqkv[q + d] += ds * qkv[s * width + K + d]
          dqkv[s * width + K + d] += ds * qkv[q + d]
          dqkv[s * width + V + d] += ps * dout[o + d]
        }
      })
    }
  return { out, dqkv }
}
