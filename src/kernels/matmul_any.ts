import { ceilDiv, defineKernel } from '../gpu/kernel.ts'
import { MATMUL_BINDINGS, MATMUL_FLAGS, MATMUL_UNIFORMS, MATMUL_VARIANTS, matmulCost } from './matmul_common.ts'

/** One output an invocation: any shape, any device. */
export const matmulAnyKernel = defineKernel({
  name: 'matmul_any',
  bindings: MATMUL_BINDINGS,
  uniforms: MATMUL_UNIFORMS,
  flags: MATMUL_FLAGS,
  variants: MATMUL_VARIANTS,
  constants: {},
  grid: ({ M, N }) => [ceilDiv(N, 8), ceilDiv(M, 8)],
  cost: matmulCost,
  split: 'y',
})
