/** @file Single kernels of the engine as programs of their own, to be timed: traced, planned and replayed as in a training step. */
import { matmulCandidates, tunedTo } from '../src/kernels/matmul.ts'
import { emitMatmul } from '../src/autograd/ops/matmul.ts'
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import { optimizerStep } from '../src/optim/adamw.ts'
import type { TargetTraits } from '../src/tensor/graph.ts'
import type { Matmul, MatmulShape } from './engines.ts'
import { MeasuredGraph } from './measured_graph.ts'
import type { Layout } from './peers/naive.ts'
import type { Run } from './timing.ts'
import type { BenchFormat, BenchWeight } from './weights.ts'

/** As on adapters that nothing is known of: not software, no fixed subgroup, not tuned. */
export const unknownTarget = (gpu: Gpu): TargetTraits => {
  const { matmuls: _, ...target } = targetOf(gpu.traits)
  return { ...target, software: false, subgroup: 0 }
}

/** As where the tuner found subgroup matrices to be fastest; null: there are none. */
export function matrixTarget(gpu: Gpu): TargetTraits | null {
  const target = targetOf(gpu.traits)
  const found = matmulCandidates(target).find((c) => c.family === 'matrix')
  return found ? { ...target, software: false, matmuls: tunedTo(found) } : null
}

/** `time` is `run` with the milliseconds of the submit alone. */
export type TimedMatmul = Matmul & { readonly time: Run }

/** c [M, N] = a by `b`, as a layer (nt), its gradient by the input (nn) or by the weight (tn, f32 alone) runs it on `target`. */
export async function engineMatmul(
  gpu: Gpu,
  target: TargetTraits,
  layout: Layout,
  { M, N, K }: MatmulShape,
  a: Float32Array<ArrayBuffer>,
  { format, weight }: { readonly format: BenchFormat; readonly weight: Pick<BenchWeight, 'data' | 'scales'> },
): Promise<TimedMatmul> {
  const measured = new MeasuredGraph(gpu, target)
  const [rows, cols] = layout === 'nt' ? [N, K] : [K, N]
  const x = measured.leaf('a', layout === 'tn' ? [K, M] : [M, K], a)
  const data = measured.leaf('b', format === 'f32' ? [rows, cols] : [weight.data.length], weight.data)
  const scales = weight.scales && measured.leaf('scales', [weight.scales.length], weight.scales)
  const c = measured.graph.node('matmul', [M, N], [x], null)
  emitMatmul({ layout, a: x, b: { format, rows, cols, data, scales }, c, M, N, K })
  const { run, read } = await measured.whole([c])
  return {
    time: run,
    run: async (times) => {
      await run(times)
    },
    read: () => read(c),
    dispose: () => {
      measured.dispose()
    },
  }
}

/** The whole optimizer step over one flat buffer of `length` parameters. `bytes`: what it must read and write. */
export async function engineAdamW(
  gpu: Gpu,
  length: number,
): Promise<{ readonly bytes: number; readonly run: Run; readonly dispose: () => void }> {
  const measured = new MeasuredGraph(gpu, targetOf(gpu.traits))
  const stats = measured.leaf('statistics', [4], 0)
  const state = {
    param: measured.leaf('parameters', [length], 0.1),
    grad: measured.leaf('gradients', [length], 0.01),
    m: measured.leaf('first moments', [length], 0),
    v: measured.leaf('second moments', [length], 0),
    lrScale: measured.leaf('learning-rate factors', [length / 64], 1),
  }
  optimizerStep([state], stats, { lr: 1e-3, step: 1, weightDecay: 0.01, clip: 1 })
  const { run } = await measured.whole()
  return {
    // Read: gradients twice (their norm first), values and both moments; written: all four, as gradients are cleared.
    bytes: 9 * 4 * length,
    run,
    dispose: () => {
      measured.dispose()
    },
  }
}
