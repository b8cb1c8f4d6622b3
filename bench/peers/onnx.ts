/**
 * @file onnxruntime-web's WebGPU matmul: a model of one MatMul node, operands and product in GPU buffers. It cannot train (its training build ended with
 * 1.20), so it has no step.
 */
import * as ort from 'onnxruntime-web/jspi'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.jspi.wasm?url'
import { readFloats, storageBuffer } from '../device.ts'
import { type Matmul, type MatmulShape } from '../engines.ts'

/** Protocol-buffer fields: a varint, and anything that has a length. */
const varint = (field: number, value: number): number[] => [field << 3, ...base128(value)]
const bytes = (field: number, content: readonly number[]): number[] => [(field << 3) | 2, ...base128(content.length), ...content]
const text = (field: number, value: string): number[] => bytes(field, [...new TextEncoder().encode(value)])

function base128(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...base128(value >>> 7)]
}

/** An ONNX model (onnx.proto3, opset 13) with inputs A [M, K] and B [K, N] and output C = MatMul(A, B), all f32. */
function matmulModel({ M, N, K }: MatmulShape): Uint8Array {
  const FLOAT = 1
  const value = (name: string, dims: readonly number[]) => {
    const shape = dims.flatMap((d) => bytes(1, varint(1, d)))
    return [...text(1, name), ...bytes(2, bytes(1, [...varint(1, FLOAT), ...bytes(2, shape)]))]
  }
  const node = [...text(1, 'A'), ...text(1, 'B'), ...text(2, 'C'), ...text(4, 'MatMul')]
  const graph = [
    ...bytes(1, node),
    ...text(2, 'matmul'),
    ...bytes(11, value('A', [M, K])),
    ...bytes(11, value('B', [K, N])),
    ...bytes(12, value('C', [M, N])),
  ]
  return Uint8Array.from([...varint(1, 8), ...bytes(7, graph), ...bytes(8, varint(2, 13))])
}

export async function createMatmul(shape: MatmulShape, a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>): Promise<Matmul> {
  const { M, N, K } = shape
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmPaths = { wasm }
  const session = await ort.InferenceSession.create(matmulModel(shape), {
    executionProviders: ['webgpu'],
    preferredOutputLocation: 'gpu-buffer',
  })
  const device = await ort.env.webgpu.device
  const buffers = [storageBuffer(device, a), storageBuffer(device, b), storageBuffer(device, M * N * 4)] as const
  const tensor = (buffer: GPUBuffer, dims: number[]) => ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims })
  const feeds = { A: tensor(buffers[0], [M, K]), B: tensor(buffers[1], [K, N]) }
  const fetches = { C: tensor(buffers[2], [M, N]) }
  return {
    async run(times) {
      for (let i = 0; i < times; i++) await session.run(feeds, fetches)
      await device.queue.onSubmittedWorkDone()
    },
    read: () => readFloats(device, buffers[2]),
    dispose() {
      for (const buffer of buffers) buffer.destroy()
      void session.release()
    },
  }
}
