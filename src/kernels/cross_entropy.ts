import { defineKernel, grid1d } from '../gpu/kernel.ts'
import { rowReductions } from './reduce.ts'

/** loss[row] = log Σ exp(logits) - logits[target], and the logits replaced by (softmax - onehot) · scale unless flag `keep`.
 * `width`: elements a row, in vec4s with flag `vec4`. One workgroup a row, two passes over it. */
export const crossEntropyKernel = defineKernel({
  name: 'cross_entropy',
  bindings: { logits: 'write', targets: 'read', loss: 'write' },
  uniforms: { rows: 'u32', width: 'u32', scale: 'f32' },
  flags: ['vec4', 'keep'],
  variants: [[], ['vec4'], ['keep'], ['vec4', 'keep']],
  constants: { WORKGROUP: 256 },
  subgroups: 'optional',
  generate: rowReductions('row_sum', 'row_max'),
  grid: ({ rows }) => grid1d(rows),
})

/** out[0] = Σ x[0 … len), or += it (flag `add`). One workgroup. */
export const totalKernel = defineKernel({
  name: 'total',
  bindings: { x: 'read', out: 'write' },
  uniforms: { len: 'u32' },
  flags: ['add'],
  constants: { WORKGROUP: 256 },
  subgroups: 'optional',
  generate: rowReductions('row_sum'),
  grid: () => [1],
})
