import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { PROJECTION_CONSTANTS, PROJECTION_FLAGS, PROJECTION_UNIFORMS, projection } from './projection.ts'
import { rowReductions } from './reduce.ts'

type RowConstants = Readonly<Record<'WORKGROUP' | 'ROWS' | 'BLOCK', number>>
const withProjection =
  (sum: 'row_sum' | 'row_sum2') =>
  (c: RowConstants, flags: ReadonlySet<string>): string =>
    `${rowReductions(sum)(c)}\n${flags.has('project') ? projection('out', flags.has('p_rows'), c) : ''}`
const PROJECTION_BINDINGS = { p: { access: 'read', when: ['project'] }, h: { access: 'write', when: ['project'] } } as const
const rowGroups = ({ rows }: { readonly rows: number }, { ROWS }: RowConstants) => grid1d(ceilDiv(rows, ROWS))

/** RMSNorm of rows, or LayerNorm (flag `center`). Flags: `one_plus` the scale is 1 + weight; `bias` (LayerNorm); `save` writes
 * stats[row] = (mean or 0, 1/σ); `project` writes h = out's projection as well (projection.ts). One workgroup for every ROWS rows. */
export const normKernel = defineKernel({
  name: 'norm',
  bindings: {
    x: 'read',
    weight: 'read',
    bias: { access: 'read', when: ['bias'] },
    out: 'write',
    stats: { access: 'write', when: ['save'] },
    ...PROJECTION_BINDINGS,
  },
  uniforms: { rows: 'u32', width: 'u32', eps: 'f32', ...PROJECTION_UNIFORMS },
  flags: ['center', 'one_plus', 'bias', 'save', ...PROJECTION_FLAGS],
  variants: [[], ['one_plus'], ['save'], ['center', 'save'], ['center', 'bias', 'save'], ['project', 'p_rows'], ['project']],
  constants: { WORKGROUP: 64, ...PROJECTION_CONSTANTS },
  subgroups: 'optional',
  generate: withProjection('row_sum'),
  grid: rowGroups,
})

/** dL/dx of `normKernel`. RMSNorm takes the row's statistics from x again (one pass either way); LayerNorm (flag `center`) reads them. Flags: `add`: out +=;
 * `project`: as of `normKernel`. */
export const normGradKernel = defineKernel({
  name: 'norm_grad',
  bindings: { x: 'read', weight: 'read', dy: 'read', stats: { access: 'read', when: ['center'] }, out: 'write', ...PROJECTION_BINDINGS },
  uniforms: { rows: 'u32', width: 'u32', eps: 'f32', ...PROJECTION_UNIFORMS },
  flags: ['center', 'one_plus', 'add', ...PROJECTION_FLAGS],
  variants: [[], ['add'], ['one_plus'], ['center'], ['center', 'add'], ['project'], ['add', 'project', 'p_rows']],
  constants: { WORKGROUP: 64, ...PROJECTION_CONSTANTS },
  subgroups: 'optional',
  generate: withProjection('row_sum2'),
  grid: rowGroups,
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
