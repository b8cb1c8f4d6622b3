import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** Key and value columns of `rows` rows of qkv to rows `position` … of the caches. width, kv_width, k_col in vec4s. */
export const kvAppendKernel = defineKernel({
  name: 'kv_append',
  bindings: { qkv: 'read', k_cache: 'write', v_cache: 'write' },
  uniforms: { rows: 'u32', width: 'u32', kv_width: 'u32', k_col: 'u32', position: 'u32' },
  constants: { WORKGROUP: 64 },
  grid: ({ rows, kv_width }, { WORKGROUP }) => grid1d(ceilDiv(rows * kv_width, WORKGROUP)),
})

/** Attention of new queries over cached keys and values; one workgroup a query and head. */
export const attentionCachedKernel = defineKernel({
  name: 'attention_cached',
  bindings: { qkv: 'read', k_cache: 'read', v_cache: 'read', out: 'write' },
  uniforms: { rows: 'u32', width: 'u32', heads: 'u32', kv_heads: 'u32', position: 'u32', scale: 'f32' },
  constants: { WORKGROUP: 64, HEAD_DIM: 64 },
  grid: ({ rows, heads }) => (rows === 0 ? [0] : [heads, rows]),
})
