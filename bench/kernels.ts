/**
 * @file The hot kernels from naive to best, by the adapter's measured rates: products of a layer forward (nt), backward (nn) and for a weight's gradient
 * (tn) at SmolLM2's widths with weights in each format, attention, norms, the loss and the optimizer. Results are compared with the naive kernels'.
 */
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import type { TargetTraits } from '../src/tensor/graph.ts'
import { benchAttention } from './attention.ts'
import { benchCrossEntropy, benchNorm, benchUpdate } from './byte_kernels.ts'
import type { Matmul, MatmulShape } from './engines.ts'
import { climb, type Climb, type Ladder, type Rung, type Work } from './ladder.ts'
import { random } from './model.ts'
import { arithmeticRates, memoryRates, type Peak } from './peak.ts'
import { type Layout, naiveMatmul } from './peers/naive.ts'
import { engineAdamW, engineMatmul, matrixTarget, unknownTarget } from './programs.ts'
import { rateRow, type Row } from './report.ts'
import { measure, type Run } from './timing.ts'
import { BENCH_FORMATS, type BenchFormat, benchWeight } from './weights.ts'

/** Rows of a product. 256 do not fill a large GPU: there, more are measured with fewer formats. */
const SOME_ROWS = 256
const MANY_ROWS = [2048, 4096]
const MANY_ROWS_FORMATS = ['f32', 'f16', 'q4_0'] as const
/** Features out and in of SmolLM2-135M's square and MLP layers. */
const LAYERS = [
  [576, 576],
  [1536, 576],
  [576, 1536],
] as const
/** Buffers of 64 MiB, and on software adapters of 16 where there are many: more than caches hold. */
const PARAMETERS = { software: 4 * 2 ** 20, gpu: 16 * 2 ** 20 }
const NORM = [8192, 2048] as const
/** Rows of logits over SmolLM2's vocabulary. */
const LOGITS = [256, 49152] as const

interface Product {
  readonly layout: Layout
  readonly shape: MatmulShape
}
/** The three products of a layer [out, in]. */
const products = (rows: number, [out, inputs]: readonly [number, number]): readonly Product[] => [
  { layout: 'nt', shape: { M: rows, N: out, K: inputs } },
  { layout: 'nn', shape: { M: rows, N: inputs, K: out } },
  { layout: 'tn', shape: { M: out, N: inputs, K: rows } },
]

type Options = Climb & { readonly peak: Peak }

const workOf = (m: Matmul, run: Run): Work => ({ runs: [run], results: async () => [await m.read()], dispose: () => m.dispose() })

/** One product with a weight in one format: in f32 every rung, in others what the engine has beside it. */
function ladder(gpu: Gpu, { layout, shape }: Product, format: BenchFormat, peak: Peak): Ladder {
  const { M, N, K } = shape
  const next = random(11)
  const a = Float32Array.from({ length: M * K }, () => next() * 2 - 1)
  const weight = benchWeight(format, K * N, 5)
  const naive = async () => {
    const matmul = await naiveMatmul(layout, shape, a, weight.values)
    return workOf(matmul, (times) => matmul.run(times))
  }
  const rung = (engine: string, target: TargetTraits): Rung => ({
    engine,
    make: async () => {
      const matmul = await engineMatmul(gpu, target, layout, shape, a, { format, weight })
      return workOf(matmul, matmul.time)
    },
  })
  const matrix = matrixTarget(gpu)
  return {
    ...{ case: 'matmul', name: `${layout} ${M}x${N}x${K} ${format}`, sizes: { m: M, n: N, k: K, layout, dtype: format } },
    passes: [{ tolerance: weight.tolerance, rates: (ms) => arithmeticRates(peak, 2 * M * N * K, ms) }],
    rungs: [
      { engine: 'naive', make: naive, untimed: format !== 'f32' },
      ...(format === 'f32' ? [rung('etude-tile', unknownTarget(gpu))] : []),
      ...(matrix ? [rung('etude-matrix', matrix)] : []),
      rung('etude', targetOf(gpu.traits)),
    ],
  }
}

/** Case `matmul`. Gradients of weights are products of floats. */
export async function benchLadders(gpu: Gpu, o: Options): Promise<Row[]> {
  const rows: Row[] = []
  for (const count of [SOME_ROWS, ...(gpu.traits.software ? [] : MANY_ROWS)])
    for (const product of LAYERS.flatMap((layer) => products(count, layer)))
      for (const format of product.layout === 'tn' ? (['f32'] as const) : count === SOME_ROWS ? BENCH_FORMATS : MANY_ROWS_FORMATS)
        rows.push(...(await climb(ladder(gpu, product, format, o.peak), o)))
  return rows
}

/** Norm, clip and AdamW over one flat buffer, as at the end of each step; then AdamW alone. */
export async function benchAdamW(gpu: Gpu, o: Options): Promise<Row[]> {
  const length = gpu.traits.software ? PARAMETERS.software : PARAMETERS.gpu
  const adamw = await engineAdamW(gpu, length)
  await adamw.run(1)
  const { ms, rounds } = await measure(adamw.run, o.rounds)
  adamw.dispose()
  const row = rateRow('adamw', 'etude', ms, { n: length, ...memoryRates(o.peak, adamw.bytes, ms), rounds })
  o.say(`optimizer step over ${length} parameters: ${ms.toFixed(2)} ms, ${row.gb_per_s!.toFixed(1)} GB/s`)
  return [row, ...(await benchUpdate(gpu, length, o))]
}

/** Parts of the bench → their kernels. */
export const KERNEL_PARTS: Readonly<Record<string, (gpu: Gpu, o: Options) => Promise<Row[]>>> = {
  matmul: benchLadders,
  adamw: benchAdamW,
  attention: benchAttention,
  norm: (gpu, o) => benchNorm(gpu, NORM, o),
  'cross-entropy': (gpu, o) => benchCrossEntropy(gpu, LOGITS, o),
}
