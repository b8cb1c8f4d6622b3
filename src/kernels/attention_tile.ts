/** @file Causal grouped-query attention, family "tile": 64 threads, other rows in tiles through workgroup memory. For GPUs, and wherever subgroups
 * have no fixed size. See shaders/attention_*_tile.wesl. */
import { ceilDiv, defineKernel } from '../gpu/kernel.ts'
import {
  ATTENTION_UNIFORMS,
  type AttentionSizes,
  BACKWARD_FLAGS,
  DKV_BINDINGS,
  DQ_BINDINGS,
  FORWARD_BINDINGS,
  FORWARD_FLAGS,
} from './attention_sgk.ts'

const THREADS = 64
/** SLICES threads share a row of the head; TILE rows lie in workgroup memory. */
/** Products of a head's rows with all others, or with those in the window: `n` of them. */
const cost =
  (n: number) =>
  ({ batch, tokens, heads, depth, window }: Readonly<Record<'batch' | 'tokens' | 'heads' | 'depth' | 'window', number>>): number =>
    n * 2 * batch * heads * tokens * Math.min(tokens, window) * 4 * depth
const shared = { uniforms: ATTENTION_UNIFORMS, constants: { HEAD_DIM: 64, SLICES: 2, TILE: 8 } } as const
const grid =
  (heads: 'heads' | 'kv_heads') =>
  (sizes: AttentionSizes, { SLICES }: { readonly SLICES: number }): readonly [number, number, number] => [
    ceilDiv(sizes.tokens * SLICES, THREADS),
    sizes[heads],
    sizes.batch,
  ]

/** The largest tiles that leave room in 16 KiB of workgroup memory, and slices that leave a thread at most 8 vec4s of a row where headDim allows. */
export function tileShape(headDim: number, pass: 'forward' | 'backward'): { SLICES: number; TILE: number } {
  const D4 = headDim / 4
  let SLICES = 1
  while (D4 / SLICES > 8 && D4 % (2 * SLICES) === 0 && SLICES < 16) SLICES *= 2
  const TILE = Math.min(pass === 'forward' ? 16 : 8, 2 ** Math.floor(Math.log2(256 / D4)))
  return { SLICES, TILE }
}

/** As attentionForwardSgkKernel. */
export const attentionForwardTileKernel = defineKernel({
  ...shared,
  name: 'attention_forward_tile',
  ...FORWARD_FLAGS,
  bindings: FORWARD_BINDINGS,
  grid: grid('heads'),
  cost: cost(2),
  split: 'x',
})

/** As attentionDqSgkKernel. */
export const attentionDqTileKernel = defineKernel({
  ...shared,
  name: 'attention_dq_tile',
  ...BACKWARD_FLAGS,
  bindings: DQ_BINDINGS,
  grid: grid('heads'),
  cost: cost(3),
  split: 'x',
})

/** As attentionDkvSgkKernel. */
export const attentionDkvTileKernel = defineKernel({
  ...shared,
  name: 'attention_dkv_tile',
  ...BACKWARD_FLAGS,
  bindings: DKV_BINDINGS,
  grid: grid('kv_heads'),
  cost: cost(4),
  split: 'x',
})
