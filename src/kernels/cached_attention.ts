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

/** out [tokens, heads hd] of queries in qkv over the caches. GROUP query heads share a workgroup and a key head. */
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
  flags: ['softcap'],
  constants: { HEAD_DIM: 64, GROUP: 1 },
  grid: ({ tokens, heads }, { GROUP }) => [tokens, ceilDiv(heads, GROUP)],
})
