/** @file What every matmul kernel takes: c[M, N] (+)= alpha * op(a) @ op(b) (+ h @ lb) (+ bias) (+ r). Their shaders differ only in how. */

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

export const MATMUL_BINDINGS = {
  a: 'read',
  w: 'read',
  scales: { access: 'read', when: ['w_q4', 'w_q8'] },
  c: 'write',
  h: { access: 'read', when: ['lora'] },
  lb: { access: 'read', when: ['lora'] },
  r: { access: 'read', when: ['residual'] },
  bias: { access: 'read', when: ['bias'] },
} as const

export const MATMUL_FLAGS = ['layout_nn', 'layout_tn', 'w_f32', 'w_f16', 'w_q4', 'w_q8', 'lora', 'residual', 'bias', 'accumulate'] as const
export type MatmulFlag = (typeof MATMUL_FLAGS)[number]

/** What the ops use. */
export const MATMUL_VARIANTS: readonly (readonly MatmulFlag[])[] = [
  ...(['w_f32', 'w_f16', 'w_q4', 'w_q8'] as const).flatMap((w): MatmulFlag[][] => [
    [w],
    [w, 'lora', 'residual', 'bias'],
    [w, 'layout_nn', 'accumulate'],
    [w, 'layout_nn', 'lora', 'accumulate'],
  ]),
  ['w_f32', 'layout_tn'],
  ['w_f32', 'layout_tn', 'accumulate'],
]
