/** @file Truncated factorisations on the host, in double precision, for initialisations that start from the weight. */

export interface Factors {
  /** [r, K]. */
  readonly A: Float32Array<ArrayBuffer>
  /** [N, r]. */
  readonly B: Float32Array<ArrayBuffer>
}

/** Orthonormalise the columns of Y [rows, l] in place: modified Gram-Schmidt, twice. A column that depends on those before it becomes zero. */
function orthonormalise(Y: Float64Array, rows: number, l: number): void {
  const length = (j: number): number => {
    let s = 0
    for (let n = 0; n < rows; n++) s += Y[n * l + j] ** 2
    return Math.sqrt(s)
  }
  for (let j = 0; j < l; j++) {
    const before = length(j)
    for (let pass = 0; pass < 2; pass++)
      for (let i = 0; i < j; i++) {
        let d = 0
        for (let n = 0; n < rows; n++) d += Y[n * l + i] * Y[n * l + j]
        for (let n = 0; n < rows; n++) Y[n * l + j] -= d * Y[n * l + i]
      }
    const after = length(j)
    const inv = after > 1e-13 * before ? 1 / after : 0
    for (let n = 0; n < rows; n++) Y[n * l + j] *= inv
  }
}

/** W X for W [N, K], X [K, l], or W^T X for X [N, l]. */
function times(W: Float32Array, N: number, K: number, X: Float64Array, l: number, transposed: boolean): Float64Array {
  const out = new Float64Array((transposed ? K : N) * l)
  for (let n = 0; n < N; n++)
    for (let k = 0; k < K; k++) {
      const w = W[n * K + k]
      const [to, from] = transposed ? [k, n] : [n, k]
      for (let j = 0; j < l; j++) out[to * l + j] += w * X[from * l + j]
    }
  return out
}

/** Eigenvectors (columns) and values of a symmetric matrix [n, n], largest first: cyclic Jacobi rotations. */
function symmetricEigen(S: Float64Array, n: number): { values: Float64Array; vectors: Float64Array } {
  const a = Float64Array.from(S)
  const v = new Float64Array(n * n)
  for (let i = 0; i < n; i++) v[i * n + i] = 1
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0
    let diagonal = 0
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++)
        if (i === j) diagonal += a[i * n + j] ** 2
        else off += a[i * n + j] ** 2
    if (off <= 1e-28 * diagonal) break
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q]
        if (apq === 0) continue
        const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq)
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.hypot(theta, 1))
        const c = 1 / Math.hypot(t, 1)
        const s = t * c
        const rotate = (m: Float64Array, i: number, j: number) => {
          const [x, y] = [m[i], m[j]]
          m[i] = c * x - s * y
          m[j] = s * x + c * y
        }
        for (let k = 0; k < n; k++) rotate(a, k * n + p, k * n + q)
        for (let k = 0; k < n; k++) rotate(a, p * n + k, q * n + k)
        for (let k = 0; k < n; k++) rotate(v, k * n + p, k * n + q)
      }
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j] - a[i * n + i])
  return {
    values: Float64Array.from(order, (i) => a[i * n + i]),
    vectors: Float64Array.from({ length: n * n }, (_, i) => v[Math.floor(i / n) * n + order[i % n]]),
  }
}

/** W ≈ B A with B = U √S, A = √S V^T over the r largest singular values. W: [N, K]. The best approximation within the block Krylov space of W W^T on
 * r + 4 random columns (Musco and Musco 2015, https://arxiv.org/abs/1504.05477, algorithm 2): exact up to rounding where that is all of min(N, K). */
export function truncatedSvd(W: Float32Array, N: number, K: number, r: number): Factors {
  const smallest = Math.min(N, K)
  const width = Math.min(smallest, r + 4)
  // The eigenproblem below costs l³: the last blocks are kept.
  const blocks = Math.min(Math.ceil(smallest / width), Math.max(2, Math.floor(128 / width)))
  const passes = blocks * width >= smallest ? blocks : Math.max(blocks, 6)
  const l = blocks * width
  // A fixed start: the result must not depend on a seed.
  let state = 1
  const start = Float64Array.from({ length: K * width }, () => (state = (state * 48271) % 2147483647) / 2147483647 - 0.5)
  const Q = new Float64Array(N * l)
  let X = times(W, N, K, start, width, false)
  for (let i = 0; i < passes; i++) {
    if (i > 0) {
      const Z = times(W, N, K, X, width, true)
      orthonormalise(Z, K, width)
      X = times(W, N, K, Z, width, false)
    }
    orthonormalise(X, N, width)
    const at = (i - (passes - blocks)) * width
    if (at >= 0) for (let n = 0; n < N; n++) for (let j = 0; j < width; j++) Q[n * l + at + j] = X[n * width + j]!
  }
  orthonormalise(Q, N, l)
  const Bt = times(W, N, K, Q, l, true) // (Q^T W)^T, [K, l]
  const gram = new Float64Array(l * l)
  for (let k = 0; k < K; k++) for (let i = 0; i < l; i++) for (let j = 0; j < l; j++) gram[i * l + j] += Bt[k * l + i] * Bt[k * l + j]
  const { values, vectors } = symmetricEigen(gram, l)
  const A = new Float32Array(r * K)
  const B = new Float32Array(N * r)
  for (let j = 0; j < Math.min(r, l); j++) {
    const sigma = Math.sqrt(Math.max(0, values[j]))
    const root = Math.sqrt(sigma)
    for (let n = 0; n < N; n++) {
      let u = 0
      for (let i = 0; i < l; i++) u += Q[n * l + i] * vectors[i * l + j]
      B[n * r + j] = u * root
    }
    for (let k = 0; k < K; k++) {
      let v = 0
      for (let i = 0; i < l; i++) v += Bt[k * l + i] * vectors[i * l + j]
      A[j * K + k] = sigma > 0 ? (v / sigma) * root : 0
    }
  }
  return { A, B }
}

/** W = Q R truncated to r: B = Q's first r columns, A = R's first r rows. W: [N, K]. */
export function truncatedQr(W: Float32Array, N: number, K: number, r: number): Factors {
  const l = Math.min(r, N, K)
  const Q = Float64Array.from({ length: N * l }, (_, i) => W[Math.floor(i / l) * K + (i % l)])
  orthonormalise(Q, N, l)
  const R = times(W, N, K, Q, l, true) // [K, l]
  const A = new Float32Array(r * K)
  const B = new Float32Array(N * r)
  for (let j = 0; j < l; j++) {
    for (let k = 0; k < K; k++) A[j * K + k] = R[k * l + j]!
    for (let n = 0; n < N; n++) B[n * r + j] = Q[n * l + j]!
  }
  return { A, B }
}
