/** @file Matmul family "vec": very few rows, as in token by token generation. Each weight is read once, at the speed of memory; no lane idles over
 * rows that are not there. See shaders/matmul_vec.wesl. */
import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { MATMUL_BINDINGS, MATMUL_FLAGS, MATMUL_UNIFORMS, MATMUL_VARIANTS } from './matmul_common.ts'

const THREADS = 64
/** Rows that a thread can hold sums of without spilling. */
export const VEC_ROWS = 4

/** LANES threads share COLS columns, and take QUADS vec4s of K at a time. */
export const matmulVecKernel = defineKernel({
  name: 'matmul_vec',
  bindings: MATMUL_BINDINGS,
  uniforms: MATMUL_UNIFORMS,
  flags: MATMUL_FLAGS,
  variants: MATMUL_VARIANTS.filter((flags) => !flags.includes('layout_nn') && !flags.includes('layout_tn')),
  constants: { ROWS: 1, COLS: 4, LANES: 8, QUADS: 2 },
  grid: ({ N }, { COLS, LANES }) => grid1d(ceilDiv(N, (COLS * THREADS) / LANES)),
})

/** The widest teams that leave at most a tenth of their lanes idle along K; more columns each where there are many. */
export function vecShape(M: number, N: number, K: number): { ROWS: number; COLS: number; LANES: number; QUADS: number } {
  const QUADS = K % 8 === 0 ? 2 : 1
  const units = K / (4 * QUADS)
  const LANES = [32, 16, 8, 4, 2].find((n) => units / (ceilDiv(units, n) * n) >= 0.9) ?? 1
  return { ROWS: M, COLS: N >= 8192 ? 4 : N >= 2048 ? 2 : 1, LANES, QUADS }
}
