import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** out = x / (1 - p) where a random u32 of (seed, step, stream, element) is at least `threshold` = p 2³², else 0. Flag `add`: out +=. len in vec4s. */
export const dropoutKernel = defineKernel({
  name: 'dropout',
  bindings: { x: 'read', out: 'write' },
  uniforms: { len: 'u32', seed: 'u32', step: 'u32', stream: 'u32', threshold: 'u32', scale: 'f32' },
  flags: ['add'],
  constants: { WORKGROUP: 64 },
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})
