/** @file Generation: new keys and values into a cache, and new queries over it. See shaders/append_kv.wesl and shaders/cached_attention.wesl. */
import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** Rows 0 .. tokens of qkv's k and v columns to rows position .. of the caches [capacity, kv_width]. Widths in vec4s. */
export const appendKvKernel = defineKernel({
  name: 'append_kv',
  bindings: { qkv: 'read', k_cache: 'write', v_cache: 'write' },
  uniforms: { tokens: 'u32', position: 'u32', width: 'u32', k_from: 'u32', kv_width: 'u32', capacity: 'u32' },
  constants: { WORKGROUP: 64 },
  grid: ({ tokens, kv_width }, { WORKGROUP }) => grid1d(ceilDiv(tokens * kv_width, WORKGROUP)),
})

/** appendKvKernel, with the rotation of queries (in place) and keys before it. Depths of a head and of half its rotated dimensions in vec4s. */
export const ropeAppendKernel = defineKernel({
  name: 'rope_append',
  bindings: { qkv: 'write', positions: 'read', inv_freq: 'read', k_cache: 'write', v_cache: 'write' },
  uniforms: { ...appendKvKernel.uniforms, depth: 'u32', half_depth: 'u32', mscale: 'f32' },
  constants: { WORKGROUP: 64 },
  grid: ({ tokens, half_depth }, { WORKGROUP }) => grid1d(ceilDiv(tokens * half_depth, WORKGROUP)),
})

/** out [tokens, heads hd] of queries in qkv over the caches. GROUP query heads share a workgroup and a key head. Flag split: what SPLITS workgroups
 * found in their shares of the keys, [tokens, heads, SPLITS, hd + 4], for combineAttentionKernel. */
export const cachedAttentionKernel = defineKernel({
  name: 'cached_attention',
  bindings: { qkv: 'read', k_cache: 'read', v_cache: 'read', out: 'write' },
  uniforms: {
    tokens: 'u32',
    position: 'u32',
    heads: 'u32',
    kv_heads: 'u32',
    depth: 'u32',
    window: 'u32',
    q_scale: 'f32',
    cap: 'f32',
  },
  flags: ['softcap', 'split'],
  constants: { HEAD_DIM: 64, GROUP: 1, SPLITS: 1 },
  grid: ({ tokens, heads }, { GROUP, SPLITS }) => [tokens, ceilDiv(heads, GROUP), SPLITS],
})

/** out [tokens, heads hd] of the parts that cached_attention's flag split leaves. `depth`: vec4s of a head. */
export const combineAttentionKernel = defineKernel({
  name: 'combine_attention',
  bindings: { parts: 'read', out: 'write' },
  uniforms: { tokens: 'u32', heads: 'u32', depth: 'u32' },
  constants: { SPLITS: 1 },
  grid: ({ tokens, heads }) => [tokens, heads],
})
