/** @file Single kernels of the engine as programs of their own, to be timed: traced, planned and replayed as in a training step. */
import { matmulCandidates, tunedTo } from '../src/kernels/matmul.ts'
import { emitMatmul } from '../src/autograd/ops/matmul.ts'
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import { waitFor } from '../src/gpu/wait.ts'
import { optimizerStep } from '../src/optim/adamw.ts'
import { Graph, type TargetTraits } from '../src/tensor/graph.ts'
import { type Program, Session, SessionPlan } from '../src/tensor/program.ts'
import { Storage } from '../src/tensor/storage.ts'
import type { Matmul, MatmulShape } from './engines.ts'
import type { Layout } from './peers/naive.ts'
import type { BenchFormat, BenchWeight } from './weights.ts'

type Words = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>

/** Submits the program so many times, and waits for the last. */
const repeated =
  (gpu: Gpu, program: Program) =>
  async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) program.run()
    await waitFor(gpu.device.queue.onSubmittedWorkDone())
  }

/** As on adapters that nothing is known of: no fixed subgroup, not software. */
export const unknownTarget = (gpu: Gpu): TargetTraits => ({ ...targetOf(gpu.traits), software: false, subgroup: 0 })

/** As where the tuner found subgroup matrices to be fastest; null: there are none. */
export function matrixTarget(gpu: Gpu): TargetTraits | null {
  const target = targetOf(gpu.traits)
  const found = matmulCandidates(target).find((c) => c.family === 'matrix')
  return found ? { ...target, software: false, matmuls: tunedTo(found) } : null
}

/** c [M, N] = a by `b`, as a layer (nt), its gradient by the input (nn) or by the weight (tn, f32 alone) runs it on `target`. */
export async function engineMatmul(
  gpu: Gpu,
  target: TargetTraits,
  layout: Layout,
  { M, N, K }: MatmulShape,
  a: Float32Array<ArrayBuffer>,
  { format, weight }: { readonly format: BenchFormat; readonly weight: Pick<BenchWeight, 'data' | 'scales'> },
): Promise<Matmul> {
  const graph = new Graph(target)
  const storages: Storage[] = []
  const store = (label: string, words: Words): Storage => {
    const s = new Storage(label, words.byteLength, 'weights')
    storages.push(s)
    s.allocate(gpu).write(words)
    return s
  }
  const packed = (label: string, words: Words) => graph.leaf(store(label, words), [words.length], { dtype: 'u32' })
  const [rows, cols] = layout === 'nt' ? [N, K] : [K, N]
  const x = graph.leaf(store('a', a), layout === 'tn' ? [K, M] : [M, K])
  const data = format === 'f32' ? graph.leaf(store('b', weight.data), [rows, cols]) : packed('b', weight.data)
  const scales = weight.scales && packed('scales', weight.scales)
  const c = graph.node('matmul', [M, N], [x], null)
  emitMatmul({ layout, a: x, b: { format, rows, cols, data, scales }, c, M, N, K })
  const session = await Session.create(gpu, new SessionPlan([{ name: 'matmul', graph, keep: [c] }]))
  const program = session.program('matmul')
  return {
    run: repeated(gpu, program),
    read: () => program.read(c),
    dispose: () => {
      session.destroy()
      for (const s of storages) s.destroy()
    },
  }
}

/** The whole optimizer step over one flat buffer of `length` parameters. `bytes`: what it must read and write. */
export async function engineAdamW(
  gpu: Gpu,
  length: number,
): Promise<{ readonly bytes: number; readonly run: (times: number) => Promise<void>; readonly dispose: () => void }> {
  const graph = new Graph(targetOf(gpu.traits))
  const storages: Storage[] = []
  const leaf = (label: string, n: number, value = 0) => {
    const s = new Storage(label, n * 4, 'optimizer')
    storages.push(s)
    s.allocate(gpu)
    if (value !== 0) s.write(new Float32Array(n).fill(value))
    return graph.leaf(s, [n])
  }
  const stats = leaf('statistics', 4)
  const state = {
    param: leaf('parameters', length, 0.1),
    grad: leaf('gradients', length, 0.01),
    m: leaf('first moments', length),
    v: leaf('second moments', length),
    lrScale: leaf('learning-rate factors', length / 64, 1),
  }
  optimizerStep([state], stats, { lr: 1e-3, step: 1, weightDecay: 0.01, clip: 1 })
  const session = await Session.create(gpu, new SessionPlan([{ name: 'adamw', graph }]))
  return {
    // Read: gradients twice (their norm first), values and both moments; written: all four, as gradients are cleared.
    bytes: 9 * 4 * length,
    run: repeated(gpu, session.program('adamw')),
    dispose: () => {
      session.destroy()
      for (const s of storages) s.destroy()
    },
  }
}
