/**
 * @file The hot kernels from naive to best, by the adapter's measured rates: products of a layer forward (nt), backward (nn) and for a weight's gradient
 * (tn) at 256 rows of SmolLM2's widths with weights in each format, and the optimizer. Products are compared with the naive kernel's.
 */
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import type { MatmulShape } from './engines.ts'
import { random } from './model.ts'
import { callsFor, type Peak, timed } from './peak.ts'
import { type Layout, naiveMatmul } from './peers/naive.ts'
import { engineAdamW, engineMatmul, matrixTarget, unknownTarget } from './programs.ts'
import { rateRow, type Row, type Say } from './report.ts'
import { BENCH_FORMATS, benchWeight } from './weights.ts'

const ROWS = 256
/** Features out and in of SmolLM2-135M's square and MLP layers. */
const LAYERS = [
  [576, 576],
  [1536, 576],
  [576, 1536],
] as const
/** A measurement is at least about this long, in milliseconds. */
const MEASURE_MS = 60
const ADAMW_PARAMS = 4 * 2 ** 20

/** The three products of a layer [out, in]. */
function products([out, inputs]: readonly [number, number]): readonly { layout: Layout; shape: MatmulShape }[] {
  return [
    { layout: 'nt', shape: { M: ROWS, N: out, K: inputs } },
    { layout: 'nn', shape: { M: ROWS, N: inputs, K: out } },
    { layout: 'tn', shape: { M: out, N: inputs, K: ROWS } },
  ]
}

/** Norm of the difference over the norm of what is expected. */
function offBy(product: Float32Array, expected: Float32Array): number {
  if (product.length !== expected.length) return Infinity
  let [difference, whole] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += (product[i] - expected[i]) ** 2
    whole += expected[i] ** 2
  }
  return Math.sqrt(difference / whole)
}

interface Options {
  readonly rounds: number
  readonly peak: Peak
  readonly say: Say
  readonly problems: string[]
}

async function ladder(gpu: Gpu, layout: Layout, shape: MatmulShape, { rounds, peak, say, problems }: Options): Promise<Row[]> {
  const { M, N, K } = shape
  const next = random(11)
  const a = Float32Array.from({ length: M * K }, () => next() * 2 - 1)
  const rows: Row[] = []
  const matrix = matrixTarget(gpu)
  for (const format of layout === 'tn' ? (['f32'] as const) : BENCH_FORMATS) {
    const weight = benchWeight(format, K * N, 5)
    const naive = await naiveMatmul(layout, shape, a, weight.values)
    await naive.run(1)
    const expected = await naive.read()
    const rungs = [
      ...(format === 'f32'
        ? [
            { engine: 'naive', matmul: naive },
            { engine: 'etude-tile', matmul: await engineMatmul(gpu, unknownTarget(gpu), layout, shape, a, { format, weight }) },
          ]
        : []),
      ...(matrix ? [{ engine: 'etude-matrix', matmul: await engineMatmul(gpu, matrix, layout, shape, a, { format, weight }) }] : []),
      { engine: 'etude', matmul: await engineMatmul(gpu, targetOf(gpu.traits), layout, shape, a, { format, weight }) },
    ]
    const said: string[] = []
    for (const { engine, matmul } of rungs) {
      const times = await callsFor((n) => matmul.run(n), MEASURE_MS)
      const ms = (await timed((n) => matmul.run(n), times, rounds)) / times
      const error = offBy(await matmul.read(), expected)
      if (!(error <= weight.tolerance)) problems.push(`matmul ${layout} ${M}x${N}x${K} ${format}, ${engine}: product off by ${error}`)
      const gflops = (2 * M * N * K) / ms / 1e6
      const rates = { gflops, peak_gflops: peak.gflops, percent_of_peak: (100 * gflops) / peak.gflops }
      rows.push(rateRow('matmul', engine, ms, { m: M, n: N, k: K, layout, dtype: format, ...rates }))
      said.push(`${engine} ${gflops.toFixed(1)}`)
    }
    for (const { matmul } of rungs) if (matmul !== naive) matmul.dispose()
    naive.dispose()
    say(`matmul ${layout} ${M}x${N}x${K} ${format}: ${said.join(', ')} GFLOP/s`)
  }
  return rows
}

export async function benchLadders(gpu: Gpu, o: Options): Promise<Row[]> {
  const rows: Row[] = []
  for (const layer of LAYERS) for (const { layout, shape } of products(layer)) rows.push(...(await ladder(gpu, layout, shape, o)))
  return rows
}

/** Norm, clip and AdamW over one flat buffer, as at the end of each step. */
export async function benchAdamW(gpu: Gpu, { rounds, peak, say }: Options): Promise<Row[]> {
  const adamw = await engineAdamW(gpu, ADAMW_PARAMS)
  const times = await callsFor(adamw.run, MEASURE_MS)
  const ms = (await timed(adamw.run, times, rounds)) / times
  adamw.dispose()
  const gb_per_s = adamw.bytes / ms / 1e6
  say(`AdamW over ${ADAMW_PARAMS} parameters: ${ms.toFixed(2)} ms, ${gb_per_s.toFixed(1)} GB/s`)
  return [rateRow('adamw', 'etude', ms, { n: ADAMW_PARAMS, gb_per_s, percent_of_peak: (100 * gb_per_s) / peak.gbPerSecond })]
}
