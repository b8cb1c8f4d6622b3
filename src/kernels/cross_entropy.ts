import { defineKernel, grid1d } from '../gpu/kernel.ts'
import { rowReductions } from './reduce.ts'

/** With x the logits, or with flag `softcap` cap · tanh(logits / cap): loss[row] = log Σ exp(x) - x[target], and the logits replaced by
 * dL/dlogits = (softmax - onehot) · scale · dx/dlogits unless flag `keep`.
 * Row 0 is number `first` of targets and loss. `width`: elements a row, in vec4s with flag `vec4`. One workgroup a row, two passes over it. */
export const crossEntropyKernel = defineKernel({
  name: 'cross_entropy',
  bindings: { logits: 'write', targets: 'read', loss: 'write' },
  uniforms: { rows: 'u32', width: 'u32', scale: 'f32', first: 'u32', cap: 'f32' },
  flags: ['vec4', 'keep', 'softcap'],
  variants: [[], ['vec4'], ['keep'], ['vec4', 'keep'], ['softcap'], ['vec4', 'softcap'], ['keep', 'softcap'], ['vec4', 'keep', 'softcap']],
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
