import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { rowReductions } from './reduce.ts'

/** RMSNorm of rows, or LayerNorm (flag `center`). Flags: `one_plus` the scale is 1 + weight; `bias` (LayerNorm); `save` writes
 * stats[row] = (mean or 0, 1/σ). One workgroup a row. */
export const normKernel = defineKernel({
  name: 'norm',
  bindings: {
    x: 'read',
    weight: 'read',
    bias: { access: 'read', when: ['bias'] },
    out: 'write',
    stats: { access: 'write', when: ['save'] },
  },
  uniforms: { rows: 'u32', width: 'u32', eps: 'f32' },
  flags: ['center', 'one_plus', 'bias', 'save'],
  variants: [[], ['one_plus'], ['save'], ['center', 'save'], ['center', 'bias', 'save']],
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_sum'),
  grid: ({ rows }) => grid1d(rows),
})

/** dL/dx of `normKernel`. RMSNorm takes the row's statistics from x again (one pass either way); LayerNorm (flag `center`) reads them. Flag `add`: out +=. */
export const normGradKernel = defineKernel({
  name: 'norm_grad',
  bindings: { x: 'read', weight: 'read', dy: 'read', stats: { access: 'read', when: ['center'] }, out: 'write' },
  uniforms: { rows: 'u32', width: 'u32', eps: 'f32' },
  flags: ['center', 'one_plus', 'add'],
  variants: [[], ['add'], ['one_plus'], ['center'], ['center', 'add']],
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_sum2'),
  grid: ({ rows }) => grid1d(rows),
})

/** out[k, c] = Σ over rows of chunk k of dy[row, c] · f(x[row, c]): f = 1, x (flag `x`), or (x - mean)/σ (flag `normalized`). Flag `add`: out +=.
 * Sizes in vec4s; `stride` between rows. Summing a tall matrix takes two calls: chunks, then the chunks' sums. */
export const columnSumKernel = defineKernel({
  name: 'column_sum',
  bindings: {
    dy: 'read',
    x: { access: 'read', when: ['x', 'normalized'] },
    stats: { access: 'read', when: ['normalized'] },
    out: 'write',
  },
  uniforms: { rows: 'u32', width: 'u32', stride: 'u32', chunk: 'u32' },
  flags: ['x', 'normalized', 'add'],
  variants: [[], ['x'], ['normalized'], ['add'], ['x', 'add'], ['normalized', 'add']],
  constants: { WORKGROUP: 64 },
  grid: ({ rows, width, chunk }, { WORKGROUP }) => [ceilDiv(width, WORKGROUP), Math.max(1, ceilDiv(rows, chunk))],
})
