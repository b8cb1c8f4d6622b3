/** @file Causal grouped-query attention that never stores a T x T matrix: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691). */
import { attentionDkvSgkKernel, attentionDqSgkKernel, attentionForwardSgkKernel } from '../../kernels/attention_sgk.ts'
import { attentionDkvTileKernel, attentionDqTileKernel, attentionForwardTileKernel, tileShape } from '../../kernels/attention_tile.ts'
import { type Dim, ShapeError, type Tensor } from '../../tensor/graph.ts'

export interface Heads {
  /** Query heads: a multiple of kvHeads. */
  readonly heads: number
  readonly kvHeads: number
  /** A multiple of 4, at most 256. */
  readonly headDim: number
}

export interface AttentionOptions extends Heads {
  /** Factor on q.k; 1 / sqrt(headDim) unless the model says otherwise. */
  readonly scale: number
  /** u32 [M]: index within the row's sequence of the first key that it sees, at most its own (0; a packed segment's first token; a window's). */
  readonly starts: Tensor
  /** Sequences and tokens of each (M = batch * tokens, row = b * tokens + t), live or fixed. */
  readonly batch: Dim
  readonly tokens: Dim
}

/** Query t of a sequence attends to keys starts[row] .. t of it.
 * @param qkv [M, (H + 2 KV) headDim], a row being [q heads | k heads | v heads]
 * @returns [M, H headDim]. Saved for the gradient: qkv, the output, and log-sum-exp [M, H]; memory is linear in T. */
export function attention(qkv: Tensor, o: AttentionOptions): Tensor {
  const { graph } = qkv
  const m = checkHeads('attention', qkv, o)
  if (o.starts.shape[0] !== m) throw new ShapeError('attention', `a start for each of ${m} rows`, o.starts.shape)
  const uniforms = { batch: o.batch, tokens: o.tokens, heads: o.heads, kv_heads: o.kvHeads, scale: o.scale, depth: o.headDim / 4 }
  const { software, subgroup } = graph.target
  // Broadcasts within a subgroup win where loads are dear, workgroup memory where it is real: measured on lavapipe and SwiftShader.
  const sgk = software && subgroup > 0
  const constants = (pass: 'forward' | 'backward') => ({ HEAD_DIM: o.headDim, ...(sgk ? { LANES: subgroup } : tileShape(o.headDim, pass)) })
  const { starts } = o
  const lse = graph.node('attention_lse', [m, o.heads], [qkv], null)
  const out = graph.node('attention', [m, o.heads * o.headDim], [qkv], (dout) => [
    () => {
      const dqkv = graph.node('attention_grad', qkv.shape, [qkv], null)
      const delta = graph.node('attention_delta', [m, o.heads], [qkv], null)
      const config = { constants: constants('backward') }
      graph.call(sgk ? attentionDqSgkKernel : attentionDqTileKernel, { qkv, starts, out, lse, dout, dqkv, delta }, uniforms, config)
      graph.call(sgk ? attentionDkvSgkKernel : attentionDkvTileKernel, { qkv, starts, lse, delta, dout, dqkv }, uniforms, config)
      return dqkv
    },
  ])
  graph.call(sgk ? attentionForwardSgkKernel : attentionForwardTileKernel, { qkv, starts, out, lse }, uniforms, {
    constants: constants('forward'),
  })
  return out
}

/** Rows of qkv; throws where heads and shapes do not fit. */
export function checkHeads(op: string, qkv: Tensor, o: Heads): number {
  const [m = 0, width = 0] = qkv.shape
  if (o.heads % o.kvHeads) throw new ShapeError(op, `query heads to be a multiple of key heads`, [o.heads], [o.kvHeads])
  if (o.headDim % 4 || o.headDim > 256) throw new ShapeError(op, 'a head size that is a multiple of 4 and at most 256', [o.headDim])
  if (qkv.shape.length !== 2 || width !== (o.heads + 2 * o.kvHeads) * o.headDim)
    throw new ShapeError(
      op,
      `[M, ${(o.heads + 2 * o.kvHeads) * o.headDim}], queries, keys and values of ${o.heads} + 2 x ${o.kvHeads} heads of ${o.headDim}`,
      qkv.shape,
    )
  return m
}
