/** @file Kernels that move bytes, from naive to best: the optimizer's update, RMSNorm and its gradient, cross-entropy. Bytes are those that a kernel must read and write:
 * what it reads twice counts once. */
import { adamwStep } from '../src/autograd/ops/optimizer.ts'
import { crossEntropyRows } from '../src/autograd/ops/loss.ts'
import { rmsNorm } from '../src/autograd/ops/norm.ts'
import { backward } from '../src/autograd/backward.ts'
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import { ADAMW_DEFAULTS } from '../src/optim/adamw.ts'
import type { Tensor } from '../src/tensor/graph.ts'
import { climb, type Climb, type Work } from './ladder.ts'
import { MeasuredGraph } from './measured_graph.ts'
import { random } from './model.ts'
import { naiveAdamW, naiveCrossEntropy, naiveNorm } from './naive_rows.ts'
import { memoryRates, type Peak } from './peak.ts'
import type { Row } from './report.ts'

type Options = Climb & { readonly peak: Peak }

function values(count: number, seed: number): Float32Array<ArrayBuffer> {
  const next = random(seed)
  return Float32Array.from({ length: count }, () => next() * 2 - 1)
}

/** What is traced, a pass a call; `trace` returns what each of them computes. */
async function engineWork(gpu: Gpu, trace: (measured: MeasuredGraph) => readonly Tensor[]): Promise<Work> {
  const measured = new MeasuredGraph(gpu, targetOf(gpu.traits))
  const results = trace(measured)
  const { runs, read } = await measured.apart()
  return {
    runs,
    results: async () => {
      const all: Float32Array[] = []
      for (const t of results) all.push(await read(t))
      return all
    },
    dispose: () => {
      measured.dispose()
    },
  }
}

/** AdamW alone, without the norm of the gradient before it: case `adamw`, pass `update`. @param length a multiple of 64 */
export async function benchUpdate(gpu: Gpu, length: number, o: Options): Promise<Row[]> {
  const [param, grad] = [values(length, 3), values(length, 4)]
  const rates = { lr: 1e-3, weightDecay: 0.01 }
  const trace = (measured: MeasuredGraph): readonly Tensor[] => {
    // Norm, factor of the clip, nothing that is not finite.
    const stats = measured.leaf('statistics', [4], Float32Array.of(1, 1, 0, 0))
    const state = {
      param: measured.leaf('parameters', [length], param),
      grad: measured.leaf('gradients', [length], grad),
      m: measured.leaf('first moments', [length], 0),
      v: measured.leaf('second moments', [length], 0),
      lrScale: measured.leaf('learning-rate factors', [length / 64], 1),
    }
    adamwStep(state, stats, { ...ADAMW_DEFAULTS, ...rates, step: 1, clear: true })
    return [state.param]
  }
  const ladder = {
    ...{ case: 'adamw', name: `of ${length} parameters`, sizes: { n: length } },
    // Gradient, value and both moments are read and written. The update is a thousandth of a value.
    passes: [{ pass: 'update' as const, tolerance: 1e-6, rates: (ms: number) => memoryRates(o.peak, 8 * 4 * length, ms) }],
    rungs: [
      { engine: 'naive', make: () => naiveAdamW(param, grad, rates) },
      { engine: 'etude', make: () => engineWork(gpu, trace) },
    ],
  }
  return climb(ladder, o)
}

/** RMSNorm of x [rows, width] with a frozen weight: case `norm`. @param width a multiple of 4 */
export async function benchNorm(gpu: Gpu, [rows, width]: readonly [number, number], o: Options): Promise<Row[]> {
  const eps = 1e-5
  const [x, weight, dy] = [values(rows * width, 5), values(width, 6), values(rows * width, 7)]
  const trace = (measured: MeasuredGraph): readonly Tensor[] => {
    const input = measured.leaf('x', [rows, width], x, true)
    const y = rmsNorm(input, measured.leaf('weight', [width], weight), eps)
    const [dx] = backward(y, measured.leaf('dy', [rows, width], dy), [input])
    return [y, dx!]
  }
  const bytes = 4 * rows * width
  const ladder = {
    ...{ case: 'norm', name: `${rows}x${width}`, sizes: { m: rows, n: width } },
    passes: [
      { pass: 'forward' as const, tolerance: 1e-5, rates: (ms: number) => memoryRates(o.peak, 2 * bytes, ms) },
      { pass: 'backward' as const, tolerance: 1e-5, rates: (ms: number) => memoryRates(o.peak, 3 * bytes, ms) },
    ],
    rungs: [
      { engine: 'naive', make: () => naiveNorm(x, weight, dy, eps) },
      { engine: 'etude', make: () => engineWork(gpu, trace) },
    ],
  }
  return climb(ladder, o)
}

/** The loss of rows of logits, which become its gradient where they lie: case `cross-entropy`. */
export async function benchCrossEntropy(gpu: Gpu, [rows, width]: readonly [number, number], o: Options): Promise<Row[]> {
  const logits = values(rows * width, 8)
  const next = random(9)
  const targets = Uint32Array.from({ length: rows }, () => Math.floor(next() * width))
  const trace = (measured: MeasuredGraph): readonly Tensor[] => {
    const given = measured.leaf('logits', [rows, width], logits)
    const { grad } = crossEntropyRows(given, measured.leaf('targets', [rows], targets), rows, 1 / rows)
    return [grad!]
  }
  const ladder = {
    ...{ case: 'cross-entropy', name: `${rows}x${width}`, sizes: { m: rows, n: width } },
    passes: [{ tolerance: 1e-4, rates: (ms: number) => memoryRates(o.peak, 2 * 4 * rows * width, ms) }],
    rungs: [
      { engine: 'naive', make: () => naiveCrossEntropy(logits, targets, 1 / rows) },
      { engine: 'etude', make: () => engineWork(gpu, trace) },
    ],
  }
  return climb(ladder, o)
}
