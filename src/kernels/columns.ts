import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** out[row, col] = x[row, col] · c[col], or x + c (flag `plus`), or out += it (flag `add`). len and width (one row) in vec4s. */
export const columnsKernel = defineKernel({
  name: 'columns',
  bindings: { x: 'read', c: 'read', out: 'write' },
  uniforms: { len: 'u32', width: 'u32' },
  flags: ['plus', 'add'],
  constants: { WORKGROUP: 64 },
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})

/** out[row, out_from + j] = x[row, x_from + j] for j < cols; the rest of out is left alone, or zero (flag `zero`: then `width` is out's row, else cols).
 * Flag `add`: out +=. Sizes in elements, or in vec4s with flag `vec4`. */
export const copyColumnsKernel = defineKernel({
  name: 'copy_columns',
  bindings: { x: 'read', out: 'write' },
  uniforms: { rows: 'u32', width: 'u32', cols: 'u32', x_from: 'u32', x_stride: 'u32', out_from: 'u32', out_stride: 'u32' },
  flags: ['vec4', 'zero', 'add'],
  variants: [[], ['zero'], ['add'], ['vec4'], ['vec4', 'zero'], ['vec4', 'add']],
  constants: { WORKGROUP: 64 },
  grid: ({ rows, width }, { WORKGROUP }) => grid1d(ceilDiv(rows * width, WORKGROUP)),
})
