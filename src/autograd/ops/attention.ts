/** @file Causal grouped-query attention that never stores a T x T matrix: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691). */
import { attentionDkvSgkKernel, attentionDqSgkKernel, attentionForwardSgkKernel } from '../../kernels/attention_sgk.ts'
import { attentionDkvTileKernel, attentionDqTileKernel, attentionForwardTileKernel, tileShape } from '../../kernels/attention_tile.ts'
import { type Dim, ShapeError, type Tensor } from '../../tensor/graph.ts'
import { checkRotation, turn } from './rope.ts'

export interface Heads {
  /** Query heads: a multiple of kvHeads. */
  readonly heads: number
  readonly kvHeads: number
  /** A multiple of 4, at most 256. */
  readonly headDim: number
}

/** How scores are made of q.k, and which of them count. */
export interface Scores {
  /** Factor on q.k; 1 / sqrt(headDim) unless the model says otherwise. */
  readonly scale: number
  /** Scores s become softcap tanh(s / softcap) (Gemma 2, https://arxiv.org/abs/2408.00118, section 2). */
  readonly softcap?: number
  /** A query sees at most this many keys, its own included (`sliding_window` of Transformers); default: no limit. */
  readonly window?: number
}

/** The rotation that queries and keys went through, in RoPE's half-split layout (see rope.ts). */
export interface Rotation {
  /** u32 [M]. */
  readonly positions: Tensor
  /** f32 [R/2], R the leading dimensions of a head that are rotated. */
  readonly invFreq: Tensor
  readonly mscale?: number
}

export interface AttentionOptions extends Heads, Scores {
  /** u32 [M]: index within the row's sequence of the first key that it may see, at most its own (0; a packed segment's first token). */
  readonly starts: Tensor
  /** Sequences and tokens of each (M = batch * tokens, row = b * tokens + t), live or fixed. */
  readonly batch: Dim
  readonly tokens: Dim
  /** qkv holds rotated queries and keys, and its gradient is wanted by the unrotated ones: the gradient's kernels turn it back as they store it. */
  readonly rope?: Rotation | null
}

/** Query t of a sequence attends to keys max(starts[row], t + 1 - window) .. t of it; the work is in proportion to the keys seen, by blocks.
 * @param qkv [M, (H + 2 KV) headDim], a row being [q heads | k heads | v heads]
 * @returns [M, H headDim]. Saved for the gradient: qkv, the output, and two numbers a row and head; memory is linear in T. */
export function attention(qkv: Tensor, o: AttentionOptions): Tensor {
  const { graph } = qkv
  const m = checkHeads('attention', qkv, o)
  if (o.starts.shape[0] !== m) throw new ShapeError('attention', `a start for each of ${m} rows`, o.starts.shape)
  const { starts } = o
  const half = o.rope ? o.rope.invFreq.shape[0] : 0
  if (o.rope) checkRotation('attention', m, o.headDim, o.rope)
  // Pairs are turned four at a time; a number of them that does not divide takes a dispatch of its own.
  const turns = o.rope && half % 4 === 0 ? o.rope : null
  const uniforms = {
    batch: o.batch,
    tokens: o.tokens,
    heads: o.heads,
    kv_heads: o.kvHeads,
    depth: o.headDim / 4,
    ...scoreUniforms('attention', o),
    scale: o.scale,
    half_depth: turns ? half / 4 : 0,
    mscale: turns?.mscale ?? 1,
  }
  const { software, subgroup } = graph.target
  // Broadcasts within a subgroup win where loads are dear, workgroup memory where it is real: measured on lavapipe and SwiftShader.
  const sgk = software && subgroup > 0
  const constants = (pass: 'forward' | 'backward') => ({
    HEAD_DIM: o.headDim,
    ...(sgk ? { LANES: subgroup, ROWS: o.headDim > 128 ? 1 : 2 } : tileShape(o.headDim, pass)),
  })
  const capped = o.softcap === undefined ? [] : (['softcap'] as const)
  // Of each row and head: log-sum-exp, then room for what the gradient by q leaves for that by k and v.
  const stats = graph.node('attention_stats', [m, o.heads, 2], [qkv], null)
  const out = graph.node('attention', [m, o.heads * o.headDim], [qkv], (dout) => [
    () => {
      const dqkv = graph.node('attention_grad', qkv.shape, [qkv], null)
      const config = { constants: constants('backward'), flags: [...capped, ...(turns ? (['rope'] as const) : [])] }
      const rotation = { positions: turns?.positions, inv_freq: turns?.invFreq }
      graph.call(sgk ? attentionDqSgkKernel : attentionDqTileKernel, { qkv, starts, out, dout, stats, dqkv, ...rotation }, uniforms, config)
      graph.call(sgk ? attentionDkvSgkKernel : attentionDkvTileKernel, { qkv, starts, stats, dout, dqkv, ...rotation }, uniforms, config)
      return o.rope && !turns ? turn(dqkv, { ...o.rope, heads: o.heads + o.kvHeads, headDim: o.headDim }, -1) : dqkv
    },
  ])
  graph.call(sgk ? attentionForwardSgkKernel : attentionForwardTileKernel, { qkv, starts, out, stats }, uniforms, {
    constants: constants('forward'),
    flags: capped,
  })
  return out
}

/** Rotary embedding of queries and keys, then attention over them: rope in place over qkv, whose memory is overwritten and may have no other reader,
 * and a gradient by the unrotated qkv in two dispatches. Parameters and result as `attention`. */
export function ropeAttention(qkv: Tensor, o: AttentionOptions & { readonly rope: Rotation }): Tensor {
  const m = checkHeads('ropeAttention', qkv, o)
  checkRotation('ropeAttention', m, o.headDim, o.rope)
  return attention(
    turn(qkv, { ...o.rope, heads: o.heads + o.kvHeads, headDim: o.headDim }, 1, (dy) => [() => dy]),
    o,
  )
}

/** `window`, `q_scale` and `cap` of the attention kernels. */
export function scoreUniforms(op: string, o: Scores): { window: number; q_scale: number; cap: number } {
  if (o.window !== undefined && !(o.window >= 1)) throw new ShapeError(op, 'a window of at least one key', [o.window])
  if (o.softcap !== undefined && !(o.softcap > 0)) throw new ShapeError(op, 'a positive softcap', [o.softcap])
  return {
    window: o.window ?? 0xffffffff,
    q_scale: o.softcap === undefined ? o.scale * Math.LOG2E : o.scale / o.softcap,
    cap: (o.softcap ?? 0) * Math.LOG2E,
  }
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
