/** @file Causal grouped-query attention, family "sgk": a lane a row, other rows broadcast within the subgroup. For software adapters, where the
 * number of loads is what counts. One subgroup a workgroup. See shaders/attention_*_sgk.wesl. */
import { ceilDiv, defineKernel } from '../gpu/kernel.ts'
import { rowFunctions } from './attention_rows.ts'

/** `depth`, `half_depth`: vec4s of a head, and of half its rotated dimensions. `q_scale`: on q.k, so that scores (with `softcap`: the argument of tanh)
 * come out; scores are in base 2, and `cap` the largest. `window`: most keys that a query sees; 0xffffffff: no limit. */
export const ATTENTION_UNIFORMS = {
  batch: 'u32',
  tokens: 'u32',
  heads: 'u32',
  kv_heads: 'u32',
  depth: 'u32',
  window: 'u32',
  scale: 'f32',
  q_scale: 'f32',
  cap: 'f32',
  half_depth: 'u32',
  mscale: 'f32',
} as const
/** `softcap`: scores go through cap tanh(s / cap). `rope`: the gradient is by q and k before their rotation. */
export const FORWARD_FLAGS = { flags: ['softcap'] } as const
export const BACKWARD_FLAGS = { flags: ['softcap', 'rope'], variants: [[], ['softcap'], ['rope'], ['softcap', 'rope']] } as const
export const FORWARD_BINDINGS = { qkv: 'read', starts: 'read', out: 'write', stats: 'write' } as const
const ROPE_BINDINGS = { positions: { access: 'read', when: ['rope'] }, inv_freq: { access: 'read', when: ['rope'] } } as const
export const DQ_BINDINGS = {
  qkv: 'read',
  starts: 'read',
  out: 'read',
  dout: 'read',
  stats: 'write',
  dqkv: 'write',
  ...ROPE_BINDINGS,
} as const
export const DKV_BINDINGS = { qkv: 'read', starts: 'read', stats: 'read', dout: 'read', dqkv: 'write', ...ROPE_BINDINGS } as const

const shared = {
  uniforms: ATTENTION_UNIFORMS,
  constants: { HEAD_DIM: 64, LANES: 8, ROWS: 2 },
  subgroups: 'required',
  generate: ({ HEAD_DIM = 0, SUBGROUP = 0, ROWS = 0 }: Readonly<Record<string, number>>) => rowFunctions(HEAD_DIM, SUBGROUP, ROWS),
} as const
export type AttentionSizes = Readonly<Record<'batch' | 'tokens' | 'heads' | 'kv_heads', number>>

/** out [M, H hd] and stats [M, H, 2] = (log-sum-exp in base 2, unset) from qkv [M, (H + 2 KV) hd]. LANES is the subgroup size. */
export const attentionForwardSgkKernel = defineKernel({
  ...shared,
  name: 'attention_forward_sgk',
  ...FORWARD_FLAGS,
  bindings: FORWARD_BINDINGS,
  grid: ({ batch, tokens, heads }: AttentionSizes, { LANES, ROWS }) => [ceilDiv(tokens, LANES * ROWS), heads, batch],
})

/** The query columns of dqkv, and the second of stats: delta = rowsum(dout * out). */
export const attentionDqSgkKernel = defineKernel({
  ...shared,
  name: 'attention_dq_sgk',
  ...BACKWARD_FLAGS,
  bindings: DQ_BINDINGS,
  grid: ({ batch, tokens, heads }: AttentionSizes, { LANES, ROWS }) => [ceilDiv(tokens, LANES * ROWS), heads, batch],
})

/** The key and value columns of dqkv, summed over the query heads of a group. */
export const attentionDkvSgkKernel = defineKernel({
  ...shared,
  name: 'attention_dkv_sgk',
  ...BACKWARD_FLAGS,
  bindings: DKV_BINDINGS,
  grid: ({ batch, tokens, kv_heads }: AttentionSizes, { LANES, ROWS }) => [ceilDiv(tokens, LANES * ROWS), kv_heads, batch],
})
