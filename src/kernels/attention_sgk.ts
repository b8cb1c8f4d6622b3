/** @file Causal grouped-query attention, family "sgk": a lane a row, other rows broadcast within the subgroup. For software adapters, where the
 * number of loads is what counts. One subgroup a workgroup. See shaders/attention_*_sgk.wesl. */
import { ceilDiv, defineKernel } from '../gpu/kernel.ts'
import { rowFunctions } from './attention_rows.ts'

/** `depth`: vec4s of a head. */
export const ATTENTION_UNIFORMS = { batch: 'u32', tokens: 'u32', heads: 'u32', kv_heads: 'u32', scale: 'f32', depth: 'u32' } as const
const shared = {
  uniforms: ATTENTION_UNIFORMS,
  constants: { HEAD_DIM: 64, LANES: 8 },
  subgroups: 'required',
  generate: ({ HEAD_DIM = 0, SUBGROUP = 0 }: Readonly<Record<string, number>>) => rowFunctions(HEAD_DIM, SUBGROUP),
} as const
export type AttentionSizes = Readonly<Record<'batch' | 'tokens' | 'heads' | 'kv_heads', number>>

/** out [M, H hd], lse [M, H] (base 2) from qkv [M, (H + 2 KV) hd]. LANES is the subgroup size. */
export const attentionForwardSgkKernel = defineKernel({
  ...shared,
  name: 'attention_forward_sgk',
  bindings: { qkv: 'read', starts: 'read', out: 'write', lse: 'write' },
  grid: ({ batch, tokens, heads }: AttentionSizes, { LANES }) => [ceilDiv(tokens, LANES), heads, batch],
})

/** The query columns of dqkv, and delta [M, H] = rowsum(dout * out). */
export const attentionDqSgkKernel = defineKernel({
  ...shared,
  name: 'attention_dq_sgk',
  bindings: { qkv: 'read', starts: 'read', out: 'read', lse: 'read', dout: 'read', dqkv: 'write', delta: 'write' },
  grid: ({ batch, tokens, heads }: AttentionSizes, { LANES }) => [ceilDiv(tokens, LANES), heads, batch],
})

/** The key and value columns of dqkv, summed over the query heads of a group. */
export const attentionDkvSgkKernel = defineKernel({
  ...shared,
  name: 'attention_dkv_sgk',
  bindings: { qkv: 'read', starts: 'read', lse: 'read', delta: 'read', dout: 'read', dqkv: 'write' },
  grid: ({ batch, tokens, kv_heads }: AttentionSizes, { LANES }) => [ceilDiv(tokens, LANES), kv_heads, batch],
})
