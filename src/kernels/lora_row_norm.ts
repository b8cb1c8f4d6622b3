import { defineKernel, grid1d } from '../gpu/kernel.ts'
import { SCALES_BINDING, WEIGHT_FLAGS } from './weight_formats.ts'

/** 1 / ‖W + scale B A‖ of each row; for DoRA. K is a multiple of 4. */
export const loraRowNormKernel = defineKernel({
  name: 'lora_row_norm',
  bindings: { B: 'read', w: 'read', scales: SCALES_BINDING, A: 'read', y: 'write' },
  uniforms: { N: 'u32', K: 'u32', R: 'u32', b_off: 'u32', scale: 'f32', seg0: 'u32', seg1: 'u32' },
  flags: WEIGHT_FLAGS,
  variants: WEIGHT_FLAGS.map((w) => [w]),
  constants: { WORKGROUP: 32 },
  grid: ({ N }) => grid1d(N),
})
