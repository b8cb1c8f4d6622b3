/** @file Emitting a matmul: checks, kernel choice, uniforms. The differentiable ops over it are `matmul` here and those of linear.ts. */
import { chooseMatmul, type Layout } from '../../kernels/matmul.ts'
import type { MatmulFlag } from '../../kernels/matmul_common.ts'
import { DOT_FORMATS } from '../../kernels/matmul_vec.ts'
import { NO_EPILOGUE } from '../../kernels/matmul_epilogue.ts'
import { type Dim, isLive, ShapeError, type Scalar, type Tensor } from '../../tensor/graph.ts'
import { matmulPartsKernel } from '../../kernels/matmul_tile.ts'
import { isPacked, weightFlag } from '../../kernels/weight_formats.ts'
import type { Weight } from '../../tensor/weight.ts'

/** A second product added to the first: NT: h [M, S R] (segment s of the columns reads its own R columns) @ lb [N, R]^T; NN: h [M, R] @ lb [R, N]. */
export interface LowRankTerm {
  readonly h: Tensor
  readonly lb: Tensor
  readonly R: number
  /** Columns of c at which the second and third segment begin (NT). */
  readonly segments: readonly number[]
}
export interface MatmulCall {
  /** nt: a [M, K], b [N, K]; nn: a [M, K], b [K, N]; tn: a [K, M], b [K, N]. */
  readonly layout: Layout
  readonly a: Tensor
  readonly b: Weight
  readonly c: Tensor
  readonly M: Dim
  readonly N: number
  readonly K: Dim
  /** First element and row stride in elements; defaults: 0 and the tensor's last axis. */
  readonly aOff?: Dim
  readonly lda?: number
  readonly bOff?: number
  readonly ldb?: number
  readonly cOff?: number
  readonly ldc?: number
  readonly alpha?: number
  readonly lowRank?: LowRankTerm | null
  /** Same layout as c. */
  readonly residual?: Tensor | null
  readonly bias?: Tensor | null
  readonly accumulate?: boolean
  /** a is a gradient; default: in NN and TN, as in the gradients of a linear layer. */
  readonly gradient?: boolean
}

const limit = (d: Dim, planned: number): number => (isLive(d) ? planned : d)
const NO_SEGMENT = 0xffffffff

/** Append c (+)= alpha * a @ b (+ low-rank term) (+ bias) (+ residual). */
export function emitMatmul(m: MatmulCall): void {
  const { layout, a, b, c, N, lowRank } = m
  const lda = m.lda ?? a.cols
  const ldb = m.ldb ?? b.cols
  const ldc = m.ldc ?? c.cols
  const [aOff, bOff, cOff] = [m.aOff ?? 0, m.bOff ?? 0, m.cOff ?? 0]
  const M = limit(m.M, a.shape[0])
  const K = limit(m.K, a.shape[0])
  const inner = layout === 'nt' ? K : N
  const segments = lowRank && layout === 'nt' ? lowRank.segments : []
  if (lowRank && (m.alpha ?? 1) !== 1) throw new ShapeError('matmul', 'alpha 1 beside a low-rank term', c.shape)
  const vectors = [lda, aOff].every((n) => !isLive(n) && n % 4 === 0)
  const choice = chooseMatmul(a.graph.target, {
    layout,
    M,
    N,
    K,
    plain: b.format === 'f32' && !lowRank,
    packed: isPacked(b.format),
    eights: M === 1 && DOT_FORMATS.includes(b.format) && [K, ldb, bOff].every((n) => n % 8 === 0),
    aligned: [inner, ldb, bOff, ...(lowRank ? [layout === 'nt' ? lowRank.R : N] : [])].every((n) => n % 4 === 0),
    vectors,
    gradient: m.gradient ?? layout !== 'nt',
    segments,
  })
  const flags: MatmulFlag[] = [
    weightFlag(b.format),
    ...(layout === 'nn' ? (['layout_nn'] as const) : layout === 'tn' ? (['layout_tn'] as const) : []),
    ...(lowRank ? (['lora'] as const) : []),
    ...(m.residual ? (['residual'] as const) : []),
    ...(m.bias ? (['bias'] as const) : []),
    ...(m.accumulate ? (['accumulate'] as const) : []),
  ]
  const buffers = { a, w: b.data, scales: b.scales, c, h: lowRank?.h, lb: lowRank?.lb, r: m.residual, bias: m.bias }
  const uniforms = {
    M: m.M,
    N,
    K: m.K,
    lda,
    ldb,
    ldc,
    a_off: aOff,
    b_off: bOff,
    c_off: cOff,
    alpha: m.alpha ?? 1,
    R: lowRank?.R ?? 0,
    h_ld: lowRank?.h.cols ?? 0,
    seg0: segments[0] ?? NO_SEGMENT,
    seg1: segments[1] ?? NO_SEGMENT,
  }
  const { graph } = a
  if ('narrow' in choice) {
    const whole = [lowRank?.R ?? 0, lowRank?.h.cols ?? 0, layout === 'nn' ? K : 0].every((n) => n % 4 === 0)
    const how = [...flags, ...(vectors && whole ? (['a_vec4'] as const) : []), ...(choice.narrow ? (['narrow'] as const) : [])]
    graph.call(choice.kernel, buffers, { ...uniforms, ...NO_EPILOGUE }, { flags: how, constants: choice.constants })
  } else if ('dot' in choice)
    graph.call(
      choice.kernel,
      buffers,
      { ...uniforms, ...NO_EPILOGUE, eps: 0 },
      {
        flags: [...flags, ...(choice.dot ? (['dot'] as const) : [])],
        constants: choice.constants,
      },
    )
  else if ('how' in choice) {
    const tileFlags = [...flags, ...(vectors ? (['a_vec4'] as const) : []), ...choice.how]
    const { SPLIT } = choice.constants
    if (SPLIT === 1) graph.call(choice.kernel, buffers, { ...uniforms, ...NO_EPILOGUE }, { flags: tileFlags, constants: choice.constants })
    else {
      const parts = graph.node('matmul_parts', [SPLIT * M, N], [a], null, { rows: SPLIT * M })
      const raw = { ...uniforms, ...NO_EPILOGUE, ldc: N, c_off: 0, alpha: 1 }
      graph.call(choice.kernel, { ...buffers, c: parts }, raw, {
        flags: tileFlags.filter((f) => f !== 'accumulate'),
        constants: choice.constants,
      })
      const sum = { M: m.M, N, ldc, c_off: cOff, parts: SPLIT, alpha: m.alpha ?? 1 }
      graph.call(matmulPartsKernel, { p: parts, c }, sum, { flags: m.accumulate ? ['accumulate'] : [] })
    }
  } else graph.call(choice.kernel, buffers, uniforms, { flags })
}

/** An f32 tensor [rows, cols] as a matmul's b. */
export const asWeight = (t: Tensor): Weight => ({ format: 'f32', rows: t.shape[0], cols: t.cols, data: t, scales: null })

interface MatmulOptions {
  readonly transA?: boolean
  readonly transB?: boolean
  readonly alpha?: number
}
/** alpha * op(a) @ op(b) for f32 tensors. a: [M, K] or [K, M] with transA; b: [K, N] or [N, K] with transB; returns [M, N]. Not both transposed. */
export function matmul(a: Tensor, b: Tensor, { transA = false, transB = false, alpha = 1 }: MatmulOptions = {}): Tensor {
  if (transA && transB) throw new ShapeError('matmul', 'at most one transposed operand', a.shape, b.shape)
  const [M, K] = transA ? [a.cols, a.shape[0]] : [a.shape[0], a.cols]
  const [K2, N] = transB ? [b.cols, b.shape[0]] : [b.shape[0], b.cols]
  if (K !== K2) throw new ShapeError('matmul', 'equal inner dimensions', a.shape, b.shape)
  const Md: Dim = transA ? M : a.rows
  const Kd: Dim = transA ? a.rows : K
  const c = a.graph.node(
    'matmul',
    [M, N],
    [a, b],
    (dc) => [
      (into) => (transA ? product(b, dc, { transB: true, alpha }, into) : product(dc, b, { transB: !transB, alpha }, into)),
      (into) =>
        transB
          ? product(dc, a, { transA: true, alpha }, into)
          : transA
            ? product(a, dc, { alpha }, into)
            : product(a, dc, { transA: true, alpha }, into),
    ],
    { rows: Md },
  )
  emitMatmul({ layout: transA ? 'tn' : transB ? 'nt' : 'nn', a, b: asWeight(b), c, M: Md, N, K: Kd, alpha, gradient: false })
  return c
}
/** The same product without a gradient of its own, added into `into` if given. */
export function product(a: Tensor, b: Tensor, { transA = false, transB = false, alpha = 1 }: MatmulOptions, into: Tensor | null): Tensor {
  const M = transA ? a.cols : a.shape[0]
  const N = transB ? b.shape[0] : b.cols
  const Md: Dim = transA ? M : a.rows
  const K: Dim | Scalar = transA ? a.rows : a.cols
  const c = into ?? a.graph.node('matmul', [M, N], [a], null, { rows: Md })
  emitMatmul({
    layout: transA ? 'tn' : transB ? 'nt' : 'nn',
    a,
    b: asWeight(b),
    c,
    M: Md,
    N,
    K,
    alpha,
    accumulate: into !== null,
    gradient: false,
  })
  return c
}
