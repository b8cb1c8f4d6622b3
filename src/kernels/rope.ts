/** @file Rotary position embedding in place: see shaders/rope.wesl. */
import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** x [rows, width] in place; positions u32 [rows]; inv_freq [half_dim]. `sign` 1 turns, -1 turns back. Flag `vec4`: half_dim is a multiple of 4. */
export const ropeKernel = defineKernel({
  name: 'rope',
  bindings: { x: 'write', positions: 'read', inv_freq: 'read' },
  uniforms: { rows: 'u32', width: 'u32', heads: 'u32', head_dim: 'u32', half_dim: 'u32', sign: 'f32', mscale: 'f32' },
  flags: ['vec4'],
  constants: { WORKGROUP: 64 },
  // Without vec4 this is more threads than `vec4` needs; they find no row and return.
  grid: ({ rows, half_dim }, { WORKGROUP }) => grid1d(ceilDiv(rows * half_dim, WORKGROUP)),
})
