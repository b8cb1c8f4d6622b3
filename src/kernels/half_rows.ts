import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { rowReductions } from './reduce.ts'

/** packed [rows, width] = f16 of x's rows over their largest magnitude, which goes to scales [rows]. width in vec4s of x. */
export const packRowsKernel = defineKernel({
  name: 'pack_rows',
  bindings: { x: 'read', packed: 'write', scales: 'write' },
  uniforms: { rows: 'u32', width: 'u32' },
  constants: { WORKGROUP: 64 },
  subgroups: 'optional',
  generate: rowReductions('row_max'),
  grid: ({ rows }) => grid1d(rows),
})

/** x from both. len and width in vec4s. */
export const unpackRowsKernel = defineKernel({
  name: 'unpack_rows',
  bindings: { packed: 'read', scales: 'read', x: 'write' },
  uniforms: { len: 'u32', width: 'u32' },
  constants: { WORKGROUP: 64 },
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})
