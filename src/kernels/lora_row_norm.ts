import { defineKernel, grid1d } from '../gpu/kernel.ts'

/** 1 / ‖W + scale B A‖ of each row; for DoRA. K is a multiple of 4. */
export const loraRowNormKernel = defineKernel({
  name: 'lora_row_norm',
  bindings: { B: 'read', w: 'read', scales: { access: 'read', when: ['w_q4', 'w_q8'] }, A: 'read', y: 'write' },
  uniforms: { N: 'u32', K: 'u32', R: 'u32', b_off: 'u32', scale: 'f32', seg0: 'u32', seg1: 'u32' },
  flags: ['w_f32', 'w_f16', 'w_q4', 'w_q8'],
  variants: [['w_f32'], ['w_f16'], ['w_q4'], ['w_q8']],
  constants: { WORKGROUP: 32 },
  grid: ({ N }) => grid1d(N),
})
