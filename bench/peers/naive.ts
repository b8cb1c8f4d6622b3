/** @file The matmul that everyone writes first: one output a thread, workgroups of 8×8, every operand read from memory each time. */
import { benchDevice, kernel, readFloats, storageBuffer } from '../device.ts'
import { type Matmul, type MatmulShape } from '../engines.ts'

export type Layout = 'nt' | 'nn' | 'tn'
/** Where the operands of one product lie: a [M, K] or (tn) [K, M]; b [K, N] or (nt) [N, K]. */
const A_AT = {
  nt: (_: MatmulShape, K: number) => `id.y * ${K}u + k`,
  nn: (_: MatmulShape, K: number) => `id.y * ${K}u + k`,
  tn: ({ M }: MatmulShape) => `k * ${M}u + id.y`,
}
const B_AT = {
  nt: (_: number, K: number) => `id.x * ${K}u + k`,
  nn: (N: number) => `k * ${N}u + id.x`,
  tn: (N: number) => `k * ${N}u + id.x`,
}

export async function naiveMatmul(
  layout: Layout,
  shape: MatmulShape,
  a: Float32Array<ArrayBuffer>,
  b: Float32Array<ArrayBuffer>,
): Promise<Matmul> {
  const { M, N, K } = shape
  const device = await benchDevice()
  const buffers = [storageBuffer(device, a), storageBuffer(device, b), storageBuffer(device, M * N * 4)]
  const code = `
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${N}u || id.y >= ${M}u) { return; }
  var sum = 0.0;
  for (var k = 0u; k < ${K}u; k++) { sum += a[${A_AT[layout](shape, K)}] * b[${B_AT[layout](N, K)}]; }
  c[id.y * ${N}u + id.x] = sum;
}`
  const run = kernel(device, code, buffers, [Math.ceil(N / 8), Math.ceil(M / 8)])
  return {
    run,
    read: () => readFloats(device, buffers[2]),
    dispose: () => {
      for (const buffer of buffers) buffer.destroy()
    },
  }
}

export const createMatmul = (shape: MatmulShape, a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>): Promise<Matmul> =>
  naiveMatmul('nn', shape, a, b)
