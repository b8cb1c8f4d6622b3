import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { PROJECTION_CONSTANTS, projection } from './projection.ts'

/** h [rows, 4 ranks] = alpha x [rows, 4 width] @ P. P is [4 ranks, 4 width] (flag `p_rows`), or [4 width, 4 stride]: then each of SEGMENTS parts of x's
 * columns, beginning at 0, seg0, seg1 (in vec4s; 0xffffffff: none), makes its own 4 stride columns of h. stride: ranks of a segment in vec4s. */
export const projectKernel = defineKernel({
  name: 'project',
  bindings: { x: 'read', p: 'read', h: 'write' },
  uniforms: { rows: 'u32', width: 'u32', ranks: 'u32', alpha: 'f32', stride: 'u32', seg0: 'u32', seg1: 'u32' },
  flags: ['p_rows'],
  variants: [[], ['p_rows']],
  constants: { WORKGROUP: 64, ...PROJECTION_CONSTANTS, SEGMENTS: 1 },
  subgroups: 'optional',
  generate: (c, flags) => projection('x', flags.has('p_rows'), c),
  grid: ({ rows }, { ROWS, SEGMENTS }) => [...grid1d(ceilDiv(rows, ROWS)), SEGMENTS],
})
