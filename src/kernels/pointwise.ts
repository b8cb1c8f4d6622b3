import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** WGSL expressions in x, y, alpha. One row a pointwise op; a derivative is a row as well. */
export const POINTWISE = {
  copy: 'alpha * x',
  add: 'x + y',
  mul: 'x * y',
  /** y at alpha 0, x at alpha 1; beyond 1 it goes on in the same direction. */
  mix: 'y + alpha * (x - y)',
  /** tanh is ±1 in f32 long before 15, and some drivers' tanh overflows. */
  softcap: 'alpha * tanh(clamp(x / alpha, -15.0, 15.0))',
  silu: 'x / (1.0 + exp(-x))',
  /** y is dL/d(silu). */
  silu_grad: '(y / (1.0 + exp(-x))) * (1.0 + x * (1.0 - 1.0 / (1.0 + exp(-x))))',
} as const

/** out = apply(x, y, alpha) over `len` elements; flag `binary`: y is given, broadcast with period `y_len`; flag `add`: added to out. */
export const pointwiseKernel = defineKernel({
  name: 'pointwise',
  bindings: { x: 'read', y: { access: 'read', when: ['binary'] }, out: 'write' },
  uniforms: { len: 'u32', y_len: 'u32', alpha: 'f32' },
  flags: ['binary', 'add'],
  variants: [[], ['binary'], ['add'], ['binary', 'add']],
  constants: { WORKGROUP: 64 },
  applies: POINTWISE,
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})
