/** @file Every kernel. One line each; the conformance suite reads this list. */
export { pointwiseKernel } from './pointwise.ts'
export { matmulAnyKernel } from './matmul_any.ts'
export { matmulSgkKernel } from './matmul_sgk.ts'
export { matmulTileKernel } from './matmul_tile.ts'
export { loraRowNormKernel } from './lora_row_norm.ts'
export { columnSumKernel, normGradKernel, normKernel } from './norm.ts'
export { ropeKernel } from './rope.ts'
