import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { rowReductions } from './reduce.ts'

const UNIFORMS = { rows: 'u32', heads: 'u32', queries: 'u32', normed: 'u32', depth: 'u32', eps: 'f32' } as const

/** RMSNorm of the first `normed` of a row's `heads` heads, by q_weight for the first `queries` and k_weight for the rest; others are copied. `depth`: a head in
 * vec4s. Flags: `one_plus` the scale is 1 + weight; `save` writes 1/σ of each normed head. */
export const headNormKernel = defineKernel({
  name: 'head_norm',
  bindings: { x: 'read', q_weight: 'read', k_weight: 'read', out: 'write', rstds: { access: 'write', when: ['save'] } },
  uniforms: UNIFORMS,
  flags: ['one_plus', 'save'],
  variants: [[], ['one_plus'], ['save'], ['one_plus', 'save']],
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_sum'),
  grid: ({ rows, heads }) => grid1d(rows * heads),
})

/** dL/dx of `headNormKernel` in place of dL/dy (`d`), from the same x. */
export const headNormGradKernel = defineKernel({
  name: 'head_norm_grad',
  bindings: { x: 'read', q_weight: 'read', k_weight: 'read', d: 'write' },
  uniforms: UNIFORMS,
  flags: ['one_plus'],
  variants: [[], ['one_plus']],
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_sum2'),
  grid: ({ rows, normed }) => grid1d(rows * normed),
})

/** dL/dweight of heads first … first + count - 1, a sum for each chunk of rows: out [chunks, 4 depth]. A head has at most WORKGROUP vec4s. */
export const headNormWeightKernel = defineKernel({
  name: 'head_norm_weight',
  bindings: { x: 'read', dy: 'read', rstds: 'read', out: 'write' },
  uniforms: { rows: 'u32', heads: 'u32', normed: 'u32', first: 'u32', count: 'u32', depth: 'u32', chunk: 'u32' },
  constants: { WORKGROUP: 64 },
  grid: ({ rows, chunk }) => [Math.max(1, ceilDiv(rows, chunk))],
})
