/** @file Causal grouped-query attention, family "sgk": register tiles fed by subgroup broadcasts, one subgroup a workgroup. For software adapters,
 * where the number of loads is what counts. See shaders/attention_*_sgk.wesl and attention_sgk_text.ts. */
import { ceilDiv, defineKernel } from '../gpu/kernel.ts'
import { dkvText, dqText, forwardText, type TileShape } from './attention_sgk_text.ts'

export const ATTENTION_UNIFORMS = { batch: 'u32', tokens: 'u32', heads: 'u32', kv_heads: 'u32', scale: 'f32' } as const
/** TM rows a workgroup, which meet V rows a lane at a time. */
const CONSTANTS = { HEAD_DIM: 64, TM: 8, V: 4 }
type Constants = Readonly<Record<keyof typeof CONSTANTS, number>>
type Sizes = Readonly<Record<'batch' | 'tokens' | 'heads' | 'kv_heads', number>>

const text =
  (body: (shape: TileShape) => string) =>
  ({ HEAD_DIM, TM, V, SUBGROUP = 0 }: Constants & { readonly SUBGROUP?: number }): string =>
    body({ headDim: HEAD_DIM, S: SUBGROUP, TM, V })
const grid = (heads: 'heads' | 'kv_heads') => (sizes: Sizes, { TM }: Constants) => [ceilDiv(sizes.tokens, TM), sizes[heads], sizes.batch] as const
const shared = { uniforms: ATTENTION_UNIFORMS, constants: CONSTANTS, subgroups: 'required' } as const

/** out [M, H hd], lse [M, H] (base 2) from qkv [M, (H + 2 KV) hd]. */
export const attentionForwardSgkKernel = defineKernel({
  ...shared,
  name: 'attention_forward_sgk',
  bindings: { qkv: 'read', starts: 'read', out: 'write', lse: 'write' },
  generate: text(forwardText),
  grid: grid('heads'),
})

/** The query columns of dqkv, and delta [M, H] = rowsum(dout * out). */
export const attentionDqSgkKernel = defineKernel({
  ...shared,
  name: 'attention_dq_sgk',
  bindings: { qkv: 'read', starts: 'read', out: 'read', lse: 'read', dout: 'read', dqkv: 'write', delta: 'write' },
  generate: text(dqText),
  grid: grid('heads'),
})

/** The key and value columns of dqkv, summed over the query heads of a group. */
export const attentionDkvSgkKernel = defineKernel({
  ...shared,
  name: 'attention_dkv_sgk',
  bindings: { qkv: 'read', starts: 'read', lse: 'read', delta: 'read', dout: 'read', dqkv: 'write' },
  generate: text(dkvText),
  grid: grid('kv_heads'),
})
