import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { rowReductions } from './reduce.ts'

/** out[first + k] = Σ g² over the vec4s that workgroup k of `groups` takes, a stride apart. */
export const sumSquaresKernel = defineKernel({
  name: 'sum_squares',
  bindings: { g: 'read', out: 'write' },
  uniforms: { len: 'u32', first: 'u32', groups: 'u32' },
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_sum'),
  grid: ({ groups }) => [groups],
})

/** stats = (norm = √Σ partial, min(1, clip / (norm + 1e-6)) or 1 where clip is 0, 1 where norm is or was not finite, 0). One workgroup.
 * Flag `loss`: the same for a loss that is not finite. The third stays 1 until it is overwritten: no step after such a one changes anything. */
export const gradStatsKernel = defineKernel({
  name: 'grad_stats',
  bindings: { partial: 'read', stats: 'write', loss: { access: 'read', when: ['loss'] } },
  uniforms: { len: 'u32', clip: 'f32' },
  flags: ['loss'],
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_sum'),
  grid: () => [1],
})

const ADAMW_UNIFORMS = {
  lr: 'f32',
  one_minus_beta1: 'f32',
  beta2: 'f32',
  one_minus_beta2: 'f32',
  eps: 'f32',
  weight_decay: 'f32',
  bias1: 'f32',
  root_bias2: 'f32',
} as const

/** AdamW on `len` vec4s; a factor of the rate per 16 of them. bias1 = 1 - β₁ᵗ, root_bias2 = √(1 - β₂ᵗ); 1 - β is given because in f32 it is not exact.
 * Flag `clear`: the gradient is zeroed afterwards. Nothing else changes where stats say that the norm is not finite. */
export const adamwKernel = defineKernel({
  name: 'adamw',
  bindings: { param: 'write', grad: 'write', m: 'write', v: 'write', lr_scale: 'read', stats: 'read' },
  uniforms: { len: 'u32', ...ADAMW_UNIFORMS },
  flags: ['clear'],
  constants: { WORKGROUP: 64 },
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})

/** AdamW as above on `blocks` blocks whose moments are bytes: `codes` words of four, then for each block a scale (`dynamic`: `tables` hold the maps of
 * optim/dynamic_map.ts), or a scale and an exponent (`expand`: E4M3 after dynamic range expansion). A workgroup a block; `words` is BLOCK / 4, `codes_half` 128. */
export const adamw8bitKernel = defineKernel({
  name: 'adamw_8bit',
  bindings: {
    param: 'write',
    grad: 'write',
    m: 'write',
    v: 'write',
    lr_scale: 'read',
    stats: 'read',
    tables: { access: 'read', when: ['dynamic'] },
  },
  uniforms: { blocks: 'u32', codes: 'u32', words: 'u32', codes_half: 'u32', ...ADAMW_UNIFORMS },
  flags: ['dynamic', 'expand', 'clear'],
  variants: [['dynamic'], ['dynamic', 'clear'], ['expand'], ['expand', 'clear']],
  constants: { WORKGROUP: 64, BLOCK: 256 },
  subgroups: 'optional',
  generate: rowReductions('row_max4'),
  grid: ({ blocks }) => grid1d(blocks),
})
