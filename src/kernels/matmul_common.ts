/** @file What every matmul kernel takes: c[M, N] (+)= alpha * op(a) @ op(b) (+ h @ lb) (+ bias) (+ r). Their shaders differ only in how. */

import { SCALES_BINDING, WEIGHT_FLAGS, WEIGHT_FORMATS, weightFlag, type WeightFlag } from './weight_formats.ts'

/** Offsets and leading dimensions in elements. R: rank of the low-rank term, 0 if none; h_ld: its row stride; seg0, seg1: first columns of
 * the second and third segment of a fused projection (NT), 0xffffffff if none: segment s reads columns s R … of h. */
export const MATMUL_UNIFORMS = {
  M: 'u32',
  N: 'u32',
  K: 'u32',
  lda: 'u32',
  ldb: 'u32',
  ldc: 'u32',
  a_off: 'u32',
  b_off: 'u32',
  c_off: 'u32',
  alpha: 'f32',
  R: 'u32',
  h_ld: 'u32',
  seg0: 'u32',
  seg1: 'u32',
} as const

/** Multiplications and additions of both products. */
export const matmulCost = ({ M, N, K, R }: Readonly<Record<'M' | 'N' | 'K' | 'R', number>>): number => 2 * M * N * (K + R)

export const MATMUL_BINDINGS = {
  a: 'read',
  w: 'read',
  scales: SCALES_BINDING,
  c: 'write',
  h: { access: 'read', when: ['lora'] },
  lb: { access: 'read', when: ['lora'] },
  r: { access: 'read', when: ['residual'] },
  bias: { access: 'read', when: ['bias'] },
} as const

const HOW = ['layout_nn', 'layout_tn', 'lora', 'residual', 'bias', 'accumulate'] as const
export type MatmulFlag = WeightFlag | (typeof HOW)[number]
export const MATMUL_FLAGS: readonly MatmulFlag[] = [...HOW, ...WEIGHT_FLAGS]

/** What the ops use. */
export const MATMUL_VARIANTS: readonly (readonly MatmulFlag[])[] = [
  ...WEIGHT_FORMATS.map(weightFlag).flatMap((w): MatmulFlag[][] => [
    [w],
    [w, 'lora', 'residual', 'bias'],
    [w, 'layout_nn', 'accumulate'],
    [w, 'layout_nn', 'lora', 'accumulate'],
  ]),
  ['w_f32', 'layout_tn'],
  ['w_f32', 'layout_tn', 'accumulate'],
]
