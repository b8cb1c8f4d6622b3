/** @file Attention for generation: new rows extend a cache of keys and values, and look back over all of it. Not differentiable. */
import { attentionCachedKernel, kvAppendKernel } from '../../kernels/attention_cached.ts'
import type { Dim, Tensor } from '../../tensor/graph.ts'
import { checkHeads } from './attention.ts'

export interface CacheOptions {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  /** Tokens in the cache before these rows. */
  readonly position: Dim
  /** New rows. */
  readonly tokens: Dim
}

/** Copy the key and value columns of qkv [n, (H + 2 KV) hd] into rows `position` … of the caches [capacity, KV hd]. */
export function appendKv(qkv: Tensor, kCache: Tensor, vCache: Tensor, o: CacheOptions): void {
  checkHeads('append_kv', qkv, o)
  const { heads, kvHeads, headDim } = o
  qkv.graph.call(
    kvAppendKernel,
    { qkv, k_cache: kCache, v_cache: vCache },
    { rows: o.tokens, width: qkv.cols / 4, kv_width: (kvHeads * headDim) / 4, k_col: (heads * headDim) / 4, position: o.position },
  )
}

/** Row i of qkv attends to cached keys 0 … position + i (appendKv comes first). Returns [n, H hd]. */
export function cachedAttention(qkv: Tensor, kCache: Tensor, vCache: Tensor, o: CacheOptions & { readonly scale: number }): Tensor {
  const n = checkHeads('cached_attention', qkv, o)
  const { heads, kvHeads, headDim } = o
  const out = qkv.graph.node('cached_attention', [n, heads * headDim], [qkv], null, { rows: o.tokens })
  qkv.graph.call(
    attentionCachedKernel,
    { qkv, k_cache: kCache, v_cache: vCache, out },
    { rows: o.tokens, width: qkv.cols, heads, kv_heads: kvHeads, position: o.position, scale: o.scale },
    { constants: { HEAD_DIM: headDim } },
  )
  return out
}
