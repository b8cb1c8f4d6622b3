/**
 * @file The engines that are measured side by side. Each is a module that offers what it can: to train the bench model, its forward pass, a matmul. Modules
 * are loaded when they are asked for: each brings its own WebGPU device.
 */
import { type Batch, type Method, type Trainer, type Weights } from './model.ts'

/** C = A·B with A [M, K] and B [K, N], f32, row-major, already on the GPU. */
export interface Matmul {
  /** Runs it `times` times, resolves when the GPU has done them all. */
  run(times: number): Promise<void>
  /** The product [M, N]. */
  read(): Promise<Float32Array>
  dispose(): void
}

/** The bench model without an adapter, forward alone, f32: nothing is kept for a backward pass. */
export interface Forward {
  /** Mean cross-entropy over the batch's labels; resolves once it was read back. */
  loss(batch: Batch): Promise<number>
  /** Bytes an engine plans before it allocates, where it does plan. */
  readonly plannedBytes?: number
  dispose(): void
}

export interface MatmulShape {
  readonly M: number
  readonly N: number
  readonly K: number
}

export interface EngineModule {
  /** A trainer of the bench model that starts from `weights`: PyTorch's AdamW, ADAMW's rates, no decay, no clipping. */
  readonly create?: (weights: Weights, method: Method) => Promise<Trainer>
  readonly createForward?: (weights: Weights) => Promise<Forward>
  readonly createMatmul?: (shape: MatmulShape, a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>) => Promise<Matmul>
}

/** Engine id, as in the report → its module. Etude's own is `bench/etude.ts`. */
export const ENGINES: Readonly<Record<string, () => Promise<EngineModule>>> = {
  ...Object.fromEntries(Object.values(import.meta.glob<EngineModule>('./etude.ts')).map((load) => ['etude', load])),
  naive: () => import('./peers/naive.ts'),
  tfjs: () => import('./peers/tfjs.ts'),
  'jax-js': () => import('./peers/jax.ts'),
  'onnxruntime-web': () => import('./peers/onnx.ts'),
}
