/** @file Linear layers over a weight in any format, plain and with a low-rank update computed in the same matmul. */
import { loraRowNormKernel } from '../../kernels/lora_row_norm.ts'
import { ShapeError, type Tensor, type Vjp } from '../../tensor/graph.ts'
import { weightFlag } from '../../kernels/weight_formats.ts'
import type { Weight } from '../../tensor/weight.ts'
import { emitLowRankGrad, lowRankDown, lowRankUp } from './low_rank.ts'
import { asWeight, emitMatmul } from './matmul.ts'

/** Part of a weight's rows: a member of a fused projection. */
export interface RowRange {
  readonly from: number
  readonly rows: number
}
export interface LinearOptions {
  readonly residual?: Tensor | null
  /** [out], frozen. A trained bias is added with `addBias`. */
  readonly bias?: Tensor | null
  /** Only these rows of the weight; default: all. */
  readonly range?: RowRange
}

/** x @ W^T (+ bias) (+ residual). x: [M, in]; W: [out, in] in any format; returns [M, out]. A packed W is frozen; an f32 W may be trained. */
export function linear(
  x: Tensor,
  w: Weight,
  { residual = null, bias = null, range = { from: 0, rows: w.rows } }: LinearOptions = {},
): Tensor {
  if (x.cols !== w.cols) throw new ShapeError('linear', `x with ${w.cols} columns`, x.shape)
  const { rows: N } = range
  const K = w.cols
  const bOff = range.from * K
  const y = x.graph.node('linear', [x.shape[0], N], [x, w.data, ...(residual ? [residual] : [])], (dy) => [
    (into) => {
      const dx = into ?? x.graph.node('linear_dx', x.shape, [x], null)
      emitMatmul({ layout: 'nn', a: dy, b: w, bOff, c: dx, M: x.rows, N: K, K: N, accumulate: into !== null })
      return dx
    },
    weightGradient(dy, x, w, range),
    () => dy,
  ])
  emitMatmul({ layout: 'nt', a: x, b: w, bOff, c: y, M: x.rows, N, K, residual, bias })
  return y
}

/** dW = dy^T @ x, [rows, in]. */
function weightGradient(dy: Tensor, x: Tensor, w: Weight, { from, rows }: RowRange): (into: Tensor | null) => Tensor {
  return (into) => {
    const dw = into ?? x.graph.node('linear_dw', [w.rows, w.cols], [], null)
    if (!into && rows !== w.rows) throw new ShapeError('linear', 'a gradient sink for part of a weight', w.data.shape)
    emitMatmul({
      layout: 'tn',
      a: dy,
      b: asWeight(x),
      c: dw,
      cOff: from * w.cols,
      M: rows,
      N: w.cols,
      K: x.rows,
      accumulate: into !== null,
    })
    return dw
  }
}

export interface LowRankOptions extends LinearOptions {
  /** Multiplies the update. */
  readonly scale: number
  /** Columns at which the second and third member of a fused projection begin; each member has its own r rows of A. */
  readonly segments: readonly number[]
  /** What A is applied to, where it is not x itself (dropout). */
  readonly xLowRank?: Tensor
}

/** y = x W^T + s (x' A^T) B^T (+ bias) (+ residual), the update accumulated in the same matmul as the frozen product.
 * x: [M, in]; A: [S r, in], r rows for each of S members; B: [out, r]. Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1.
 * With h = s x' A^T and u = s dy B: dx = dy W + u A, dA = u^T x', dB = dy^T h; the frozen W has no gradient. */
export function lowRankLinear(x: Tensor, w: Weight, A: Tensor, B: Tensor, o: LowRankOptions): Tensor {
  const { graph } = x
  const { from, rows: N } = o.range ?? { from: 0, rows: w.rows }
  const starts = [0, ...o.segments]
  const r = B.cols
  const SR = starts.length * r
  if (A.shape[0] !== SR || A.cols !== w.cols || B.shape[0] !== N)
    throw new ShapeError('lowRankLinear', `A [${SR}, ${w.cols}] and B [${N}, r]`, A.shape, B.shape)
  if (w.data.needsGrad) throw new ShapeError('lowRankLinear', 'a frozen weight', w.data.shape)
  const K = w.cols
  const bOff = from * K
  const xl = o.xLowRank ?? x
  const fused = xl === x
  const site = { A, B, r, starts, scale: o.scale, N }
  const h = lowRankDown(xl, site)

  const vjp: Vjp = (dy) => {
    let u: Tensor | null = null
    const up = (): Tensor => (u ??= lowRankUp(dy, site))
    let both = false
    return [
      (into) => {
        const lowRank = fused ? { h: up(), lb: A, R: SR, segments: [] } : null
        const dx = into ?? graph.node('linear_dx', x.shape, [x], null)
        emitMatmul({ layout: 'nn', a: dy, b: w, bOff, c: dx, M: x.rows, N: K, K: N, lowRank, accumulate: into !== null })
        return dx
      },
      (into) => {
        // Where both gradients are added up in one buffer, one dispatch makes both.
        both = into !== null && B.sink !== null && emitLowRankGrad({ site, x: xl, h, u: up(), dy, dA: into, dB: B.sink })
        if (both) return into!
        const dA = into ?? graph.node('lora_da', A.shape, [], null)
        emitMatmul({ layout: 'tn', a: up(), b: asWeight(xl), c: dA, M: SR, N: K, K: x.rows, accumulate: into !== null })
        return dA
      },
      (into) => {
        if (both && into === B.sink) return into!
        const dB = into ?? graph.node('lora_db', B.shape, [], null)
        for (const [s, start] of starts.entries())
          emitMatmul({
            layout: 'tn',
            a: dy,
            aOff: start,
            b: asWeight(h),
            bOff: s * r,
            c: dB,
            cOff: start * r,
            M: (starts[s + 1] ?? N) - start,
            N: r,
            K: x.rows,
            accumulate: into !== null,
          })
        return dB
      },
      () => dy,
      fused
        ? null
        : (into) => {
            const dxl = into ?? graph.node('lora_dx', xl.shape, [xl], null)
            emitMatmul({ layout: 'nn', a: up(), b: asWeight(A), c: dxl, M: x.rows, N: K, K: SR, accumulate: into !== null })
            return dxl
          },
    ]
  }
  // Without a residual its place in the inputs is taken by a tensor that needs no gradient.
  const y = graph.node('lora_linear', [x.shape[0], N], [x, A, B, o.residual ?? h, xl], vjp)
  const product = { layout: 'nt', a: x, b: w, bOff, c: y, M: x.rows, N, K, residual: o.residual, bias: o.bias } as const
  if (r % 4 === 0) {
    emitMatmul({ ...product, lowRank: { h, lb: B, R: r, segments: o.segments } })
    return y
  }
  // Rows of such a B begin at no vec4, which would slow the frozen product down as well: the thin one follows it.
  emitMatmul(product)
  for (const [s, start] of starts.entries()) {
    const rows = (starts[s + 1] ?? N) - start
    const thin = { a: h, aOff: s * r, b: asWeight(B), bOff: start * r, c: y, cOff: start, M: x.rows, N: rows, K: r }
    emitMatmul({ layout: 'nt', ...thin, accumulate: true })
  }
  return y
}

/** 1 / ‖W + s B A‖ of each row, [out]. Not differentiable: DoRA treats the norm as a constant (Liu et al. 2024, https://arxiv.org/abs/2402.09353, section 4.3). */
export function inverseRowNorm(
  w: Weight,
  A: Tensor,
  B: Tensor,
  o: { scale: number; segments: readonly number[]; range?: RowRange },
): Tensor {
  const { from, rows } = o.range ?? { from: 0, rows: w.rows }
  const y = B.graph.node('row_norm', [rows], [B], null, { rows })
  B.graph.call(
    loraRowNormKernel,
    { w: w.data, scales: w.scales, A, B, y },
    {
      N: rows,
      K: w.cols,
      R: B.cols,
      b_off: from * w.cols,
      scale: o.scale,
      seg0: o.segments[0] ?? 0xffffffff,
      seg1: o.segments[1] ?? 0xffffffff,
    },
    { flags: [weightFlag(w.format)] },
  )
  return y
}
