import { ceilDiv, defineKernel } from '../gpu/kernel.ts'
import { MATMUL_BINDINGS, MATMUL_FLAGS, MATMUL_UNIFORMS, MATMUL_VARIANTS, matmulCost } from './matmul_common.ts'

/** Tiles in workgroup memory: BM x BN outputs a workgroup, TM x TN an invocation, BK of the inner dimension at a time. K, N, ldb, b_off multiples of 4. */
export const matmulTileKernel = defineKernel({
  name: 'matmul_tile',
  bindings: MATMUL_BINDINGS,
  uniforms: MATMUL_UNIFORMS,
  flags: MATMUL_FLAGS,
  variants: MATMUL_VARIANTS,
  constants: { BM: 32, BN: 64, BK: 16, TM: 4, TN: 4 },
  grid: ({ M, N }, { BM, BN }) => [ceilDiv(N, BN), ceilDiv(M, BM)],
  cost: matmulCost,
  split: 'y',
})
