/**
 * @file onnxruntime-web on WebGPU: a matmul, with operands and product in GPU buffers, and the bench model's forward pass. It cannot train (its training
 * build ended with 1.20), so it has no step.
 */
import * as ort from 'onnxruntime-web/jspi'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.jspi.wasm?url'
import { readFloats, storageBuffer } from '../device.ts'
import { type Forward, type Matmul, type MatmulShape } from '../engines.ts'
import { type Batch, BATCH, SEQ, type Weights } from '../model.ts'
import { lossModel } from './onnx_model.ts'
import { onnxModel } from './onnx_proto.ts'

const N = BATCH * SEQ

/** Throws where a node would run on the CPU: that would not be a figure of the GPU. */
function openSession(model: Uint8Array, output: 'cpu' | 'gpu-buffer'): Promise<ort.InferenceSession> {
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmPaths = { wasm }
  return ort.InferenceSession.create(model, {
    executionProviders: ['webgpu'],
    preferredOutputLocation: output,
    extra: { session: { disable_cpu_ep_fallback: '1' } },
  })
}

export async function createForward(weights: Weights): Promise<Forward> {
  const session = await openSession(lossModel(weights), 'cpu')
  return {
    async loss({ ids, labels, tokens }: Batch) {
      const weight = (label: number) => (label === -100 ? 0 : 1 / tokens)
      const feeds = {
        ids: new ort.Tensor('int32', ids, [N]),
        labels: new ort.Tensor(
          'int32',
          labels.map((label) => Math.max(0, label)),
          [N, 1],
        ),
        row_weights: new ort.Tensor('float32', Float32Array.from(labels, weight), [N, 1]),
      }
      const { loss } = await session.run(feeds)
      return (loss.data as Float32Array)[0]
    },
    dispose: () => void session.release(),
  }
}

/** A model of one MatMul node: A [M, K] · B [K, N]. */
export async function createMatmul(shape: MatmulShape, a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>): Promise<Matmul> {
  const { M, N, K } = shape
  const model = onnxModel({
    nodes: [{ op: 'MatMul', inputs: ['A', 'B'], outputs: ['C'] }],
    constants: [],
    inputs: [
      { name: 'A', type: 'f32', shape: [M, K] },
      { name: 'B', type: 'f32', shape: [K, N] },
    ],
    outputs: [{ name: 'C', type: 'f32', shape: [M, N] }],
  })
  const session = await openSession(model, 'gpu-buffer')
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
