/** @file Normalisation of the heads of queries and keys, before they are turned (Henry et al. 2020, https://arxiv.org/abs/2010.04245; as Qwen3 and Gemma 3 have it). */
import { headNormGradKernel, headNormKernel, headNormWeightKernel } from '../../kernels/head_norm.ts'
import { derived, isLive, ShapeError, type Tensor } from '../../tensor/graph.ts'
import { checkHeads, type Heads } from './attention.ts'
import { columnSum } from './column_sum.ts'
import { rowGroup } from './live.ts'

/** Rows that a lane sums on its own. */
const CHUNK = 64

export interface HeadNormOptions extends Heads {
  /** f32 [headDim] each. */
  readonly qWeight: Tensor
  readonly kWeight: Tensor
  readonly eps: number
  /** The scale is 1 + weight. */
  readonly onePlusWeight?: boolean
}

/** Each head h of the queries and keys in qkv [M, (H + 2 KV) headDim] becomes h / sqrt(mean(h²) + eps) · weight; values stay. Returns the same shape.
 * The memory of the gradient that arrives is overwritten: it may have no other reader. */
export function headNorm(qkv: Tensor, o: HeadNormOptions): Tensor {
  const { graph: g } = qkv
  const { heads, kvHeads, headDim, qWeight, kWeight, eps } = o
  const m = checkHeads('head_norm', qkv, o)
  for (const w of [qWeight, kWeight])
    if (w.shape.length !== 1 || w.cols !== headDim) throw new ShapeError('head_norm', `a weight [${headDim}]`, w.shape)
  const depth = headDim / 4
  const normed = heads + kvHeads
  const uniforms = { rows: qkv.rows, heads: heads + 2 * kvHeads, queries: heads, normed, depth, eps }
  const config = { constants: { WORKGROUP: rowGroup(g.target, depth) } }
  const onePlus = o.onePlusWeight ? (['one_plus'] as const) : []
  const rstds = qWeight.needsGrad || kWeight.needsGrad ? g.node('head_norm rstd', [m, normed], [qkv], null) : null

  const weightGrad = (dy: Tensor, first: number, count: number, into: Tensor | null): Tensor => {
    const { rows } = qkv
    const chunks = isLive(rows) ? derived(() => Math.max(1, Math.ceil(rows.value / CHUNK))) : Math.max(1, Math.ceil(rows / CHUNK))
    const partial = g.node('head_norm dweight partial', [Math.ceil(m / CHUNK), headDim], [dy], null, { rows: chunks })
    const { heads: all } = uniforms
    g.call(headNormWeightKernel, { x: qkv, dy, rstds, out: partial }, { rows, heads: all, normed, first, count, depth, chunk: CHUNK })
    return columnSum('head_norm dweight', { dy: partial, shape: [headDim] }, into)
  }
  // The weights come first: their gradients are read from what the gradient by qkv overwrites.
  const out = g.node(
    'head_norm',
    qkv.shape,
    [qWeight, kWeight, qkv],
    (dy) => [
      (into) => weightGrad(dy, 0, heads, into),
      (into) => weightGrad(dy, heads, kvHeads, into),
      () => {
        const d = g.node('head_norm dx', qkv.shape, [qkv], null, { alias: dy, rows: qkv.rows })
        g.call(headNormGradKernel, { x: qkv, q_weight: qWeight, k_weight: kWeight, d }, uniforms, { ...config, flags: onePlus })
        return d
      },
    ],
    { rows: qkv.rows },
  )
  g.call(headNormKernel, { x: qkv, q_weight: qWeight, k_weight: kWeight, out, rstds }, uniforms, {
    ...config,
    flags: [...onePlus, ...(rstds ? (['save'] as const) : [])],
  })
  return out
}
