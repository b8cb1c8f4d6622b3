/** @file Attention while generating: keys and values of earlier tokens are kept in caches. Not differentiable. */
import { appendKvKernel, cachedAttentionKernel, combineAttentionKernel } from '../../kernels/cached_attention.ts'
import { type Dim, numel, type Scalar, ShapeError, type Tensor } from '../../tensor/graph.ts'
import { checkHeads, type Heads, type Scores, scoreUniforms } from './attention.ts'

export interface CacheOptions extends Heads {
  /** Tokens already in the cache: where the first new one goes. */
  readonly position: Scalar
  /** New tokens: the live rows of qkv. position + tokens is at most the capacity of the caches. */
  readonly tokens: Dim
}

/** Rows [maxT, KV headDim] of the two caches; throws where they do not fit. */
function capacity(op: string, qkv: Tensor, kCache: Tensor, vCache: Tensor, o: CacheOptions): number {
  checkHeads(op, qkv, o)
  const width = o.kvHeads * o.headDim
  if (kCache.cols !== width || numel(kCache.shape) !== numel(vCache.shape))
    throw new ShapeError(op, `two caches [capacity, ${width}]`, kCache.shape, vCache.shape)
  return numel(kCache.shape) / width
}

/** Write the keys and values of qkv's live rows into the caches, persistent tensors [maxT, KV headDim], at rows position .. position + tokens - 1.
 * Rows beyond the capacity are dropped. Call before `cachedAttention` of the same rows. */
export function appendKv(qkv: Tensor, kCache: Tensor, vCache: Tensor, o: CacheOptions): void {
  const rows = capacity('append_kv', qkv, kCache, vCache, o)
  qkv.graph.call(
    appendKvKernel,
    { qkv, k_cache: kCache, v_cache: vCache },
    {
      tokens: o.tokens,
      position: o.position,
      width: qkv.cols / 4,
      k_from: (o.heads * o.headDim) / 4,
      kv_width: (o.kvHeads * o.headDim) / 4,
      capacity: rows,
    },
  )
}

/** Query i of qkv [n, (H + 2 KV) headDim] stands at position + i and attends to cached keys up to position + i, the last `window` of them if that is
 * given. Returns [n, H headDim]. */
export function cachedAttention(qkv: Tensor, kCache: Tensor, vCache: Tensor, o: CacheOptions & Scores): Tensor {
  const rows = capacity('cached_attention', qkv, kCache, vCache, o)
  const { graph } = qkv
  const [most, depth] = [qkv.shape[0], o.headDim / 4]
  const out = graph.node('cached_attention', [most, o.heads * o.headDim], [qkv], null, { rows: qkv.rows })
  const GROUP = sharedHeads(o)
  const SPLITS = graph.target.software ? 1 : shares(most * (o.heads / GROUP), rows)
  const parts = SPLITS > 1 ? graph.node('attention_parts', [most, o.heads, SPLITS, o.headDim + 4], [qkv], null) : null
  graph.call(
    cachedAttentionKernel,
    { qkv, k_cache: kCache, v_cache: vCache, out: parts ?? out },
    { tokens: o.tokens, position: o.position, heads: o.heads, kv_heads: o.kvHeads, depth, ...scoreUniforms('cached_attention', o) },
    {
      constants: { HEAD_DIM: o.headDim, GROUP, SPLITS },
      flags: [...(o.softcap === undefined ? [] : (['softcap'] as const)), ...(parts ? (['split'] as const) : [])],
    },
  )
  if (parts) graph.call(combineAttentionKernel, { parts, out }, { tokens: o.tokens, heads: o.heads, depth }, { constants: { SPLITS } })
  return out
}

/** Workgroups that fill a GPU. */
const ENOUGH = 128
/** Fewest keys, two tiles, that are worth a share and its part in a second dispatch. */
const SHARE = 128
/** Into how many shares to cut the keys: until there are enough workgroups (Flash-Decoding, https://pytorch.org/blog/flash-decoding/). */
const shares = (groups: number, capacity: number): number =>
  Math.max(1, Math.min(16, Math.ceil(ENOUGH / groups), Math.floor(capacity / SHARE)))

/** Query heads that a workgroup serves: a divisor of the group, small enough for workgroup memory (16 KiB at headDim 256) and registers. */
function sharedHeads({ heads, kvHeads, headDim }: Heads): number {
  const group = heads / kvHeads
  for (let n = Math.min(group, headDim > 128 ? 4 : 8); n > 1; n--) if (group % n === 0) return n
  return 1
}
