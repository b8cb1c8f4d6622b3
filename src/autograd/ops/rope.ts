/** @file Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864) in the half-split layout of Transformers' Llama. */
import { ropeKernel } from '../../kernels/rope.ts'
import { ShapeError, type Tensor, type Vjp } from '../../tensor/graph.ts'

export interface RopeOptions {
  /** u32 [M]: position of each row's token in its own sequence. */
  readonly positions: Tensor
  /** f32 [R/2]: radians a position for each pair; R <= headDim leading dimensions of a head are rotated (see nn/rope.ts). */
  readonly invFreq: Tensor
  /** Leading heads of a row to rotate: query heads, then key heads. */
  readonly heads: number
  readonly headDim: number
  /** Factor on the rotated dimensions (`attention_factor` of YaRN and LongRoPE). */
  readonly mscale?: number
}

/** Rotate in place the first `heads` heads of every row of qkv [M, W]: (x_i, x_{i+R/2}) turns by position * invFreq_i.
 * The memory of qkv is overwritten, and so is that of the gradient that arrives: neither may have another reader. */
export function rope(qkv: Tensor, o: RopeOptions): Tensor {
  const [m = 0, width = 0] = qkv.shape
  if (qkv.shape.length !== 2 || o.heads * o.headDim > width)
    throw new ShapeError('rope', `[M, W] with W of at least ${o.heads} heads of ${o.headDim}`, qkv.shape)
  checkRotation('rope', m, o.headDim, o)
  return turn(qkv, o, 1, (dy) => [() => turn(dy, o, -1)])
}

/** Throws where the positions of `m` rows or the frequencies do not fit. */
export function checkRotation(op: string, m: number, headDim: number, o: { readonly positions: Tensor; readonly invFreq: Tensor }): void {
  if (2 * o.invFreq.shape[0] > headDim) throw new ShapeError(op, `at most ${headDim / 2} frequencies`, o.invFreq.shape)
  if (o.positions.shape[0] !== m) throw new ShapeError(op, `a position for each of ${m} rows`, o.positions.shape)
}

/** The dispatch alone, forwards or back, with whatever gradient the caller says. */
export function turn(x: Tensor, o: RopeOptions, sign: 1 | -1, vjp: Vjp | null = null): Tensor {
  const half = o.invFreq.shape[0]
  const y = x.graph.node(sign > 0 ? 'rope' : 'rope_grad', x.shape, [x], vjp, {
    alias: x,
    rows: x.rows,
  })
  x.graph.call(
    ropeKernel,
    { x: y, positions: o.positions, inv_freq: o.invFreq },
    { rows: x.rows, width: x.cols, heads: o.heads, head_dim: o.headDim, half_dim: half, sign, mscale: o.mscale ?? 1 },
    { flags: half % 4 === 0 && o.headDim % 4 === 0 && x.cols % 4 === 0 ? ['vec4'] : [] },
  )
  return y
}
