/** @file Matmul family "vec": very few rows, as in token by token generation. Each weight is read once, at the speed of memory; no lane idles over
 * rows that are not there. See shaders/matmul_vec.wesl. */
import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { EPILOGUE_UNIFORMS, epilogueText, PAIR_BINDINGS, PAIR_FLAGS, PAIR_VARIANTS } from './matmul_epilogue.ts'
import { MATMUL_BINDINGS, MATMUL_FLAGS, MATMUL_UNIFORMS, MATMUL_VARIANTS, type MatmulFlag } from './matmul_common.ts'
import { isPacked, WEIGHT_FORMATS, type WeightFormat, weightFlag } from './weight_formats.ts'

const THREADS = 64
/** Rows that a thread can hold sums of without spilling. */
export const VEC_ROWS = 4

/** Formats that packed products can take: whole numbers of at most 8 bits. NF4's are codes. */
export const DOT_FORMATS: readonly WeightFormat[] = WEIGHT_FORMATS.filter((f) => isPacked(f) && f !== 'nf4')

type VecFlag = MatmulFlag | (typeof PAIR_FLAGS)[number] | 'dot' | 'norm' | 'one_plus'
const VARIANTS: readonly (readonly VecFlag[])[] = [
  ...MATMUL_VARIANTS.filter((flags) => !flags.includes('layout_nn') && !flags.includes('layout_tn')),
  ...DOT_FORMATS.map(weightFlag).flatMap((w): VecFlag[][] => [
    [w, 'dot'],
    [w, 'dot', 'lora', 'residual', 'bias'],
  ]),
  ...(['w_f32', 'w_q4_1'] as const).flatMap((w): VecFlag[][] => PAIR_VARIANTS.map((v) => [w, 'norm', ...v])),
  ['w_q4_1', 'dot', 'norm', 'one_plus', 'paired', 'rope', 'append'],
]

/** LANES threads share COLS columns, and take QUADS vec4s of K at a time. `dot`: products of whole numbers, where ROWS is 1 and QUADS 2. `norm`: a's rows are
 * multiplied by g [K] (`one_plus`: by 1 + g) and divided by sqrt(mean(a²) + eps), as normKernel does. `paired`: COLS is even. */
export const matmulVecKernel = defineKernel({
  name: 'matmul_vec',
  bindings: { ...MATMUL_BINDINGS, ...PAIR_BINDINGS, g: { access: 'read', when: ['norm'] } },
  uniforms: { ...MATMUL_UNIFORMS, ...EPILOGUE_UNIFORMS, eps: 'f32' },
  flags: [...MATMUL_FLAGS, ...PAIR_FLAGS, 'dot', 'norm', 'one_plus'] satisfies VecFlag[],
  variants: VARIANTS,
  constants: { ROWS: 1, COLS: 4, LANES: 8, QUADS: 2 },
  generate: (_, flags) => epilogueText(flags),
  grid: ({ N }, { COLS, LANES }) => grid1d(ceilDiv(N, (COLS * THREADS) / LANES)),
})

/** The widest teams that leave at most a tenth of their lanes idle along K; more columns each where there are many, and with `dot`, as rounding the row to
 * bytes takes longer than a column's products. */
export function vecShape(M: number, N: number, K: number, dot = false): { ROWS: number; COLS: number; LANES: number; QUADS: number } {
  const QUADS = K % 8 === 0 ? 2 : 1
  const units = K / (4 * QUADS)
  const LANES = [32, 16, 8, 4, 2].find((n) => units / (ceilDiv(units, n) * n) >= 0.9) ?? 1
  return { ROWS: M, COLS: dot ? (N >= 2048 ? 8 : 4) : N >= 8192 ? 4 : N >= 2048 ? 2 : 1, LANES, QUADS }
}

/** Around it neighbouring float64 are 1 apart: adding it rounds a small number to a whole one, halves to even. */
const HALF_EVEN = 1.5 * 2 ** 52
/** Activations as packed products take them: whole steps of 1/127 of the largest of each 8, which are next to each other. As the shader computes, in f32
 * and halves to even. */
export function roundedToBytes(x: Float32Array): Float64Array<ArrayBuffer> {
  const out = new Float64Array(x.length)
  for (let at = 0; at < x.length; at += 8) {
    const most = Math.max(Math.fround(1e-30), ...x.subarray(at, at + 8).map(Math.abs))
    const perUnit = Math.fround(127 / most)
    for (let i = at; i < at + 8; i++) out[i] = ((Math.fround(x[i] * perUnit) + HALF_EVEN - HALF_EVEN) * most) / 127
  }
  return out
}
