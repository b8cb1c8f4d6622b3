/** @file The matmul that everyone writes first: one output a thread, workgroups of 8×8, every operand read from memory each time. */
import { benchDevice, kernel, readFloats, storageBuffer } from '../device.ts'
import { type Matmul, type MatmulShape } from '../engines.ts'

export async function createMatmul({ M, N, K }: MatmulShape, a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>): Promise<Matmul> {
  const device = await benchDevice()
  const buffers = [storageBuffer(device, a), storageBuffer(device, b), storageBuffer(device, M * N * 4)]
  const code = `
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${N}u || id.y >= ${M}u) { return; }
  var sum = 0.0;
  for (var k = 0u; k < ${K}u; k++) { sum += a[id.y * ${K}u + k] * b[k * ${N}u + id.x]; }
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
