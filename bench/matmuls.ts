/**
 * @file Measures C = A·B of every engine on the shapes of the bench model and a large square, in rounds in which the engines take turns, against the
 * adapter's measured peak. Products are compared with the naive kernel's and dispatches are counted, so that nothing is timed that computes something else,
 * or less.
 */
import { takeCounts } from './counters.ts'
import { ENGINES, type Matmul, type MatmulShape } from './engines.ts'
import { random } from './model.ts'
import type { Peak } from './peak.ts'
import { median, rateRow, type Row, type Say } from './report.ts'
import { callsFor } from './timing.ts'

const SHAPES: readonly MatmulShape[] = [
  { M: 512, K: 256, N: 256 },
  { M: 512, K: 256, N: 688 },
  { M: 512, K: 688, N: 256 },
  { M: 512, K: 256, N: 1024 },
  { M: 1024, K: 1024, N: 1024 },
]
/** Sums of up to 1024 products of numbers in [-1, 1]: f32 in another order is off by less than 1e-4, 1e-3 leaves room for fast maths. */
const TOLERANCE = 1e-3
/** A measurement is at least about this long: one call alone is mostly the wait for the GPU. In milliseconds. */
const MEASURE_MS = 60

interface Runner {
  readonly engine: string
  readonly matmul: Matmul
  readonly times: number
  readonly ms: number[]
  /** Dispatches of one product with what is around a measurement, and the fewest of any measurement of `times`. */
  readonly single: number
  fewest: number
}

/** Milliseconds and dispatches of so many products. */
async function measure(matmul: Matmul, times: number): Promise<{ readonly ms: number; readonly dispatches: number }> {
  takeCounts()
  const began = performance.now()
  await matmul.run(times)
  const ms = performance.now() - began
  return { ms, dispatches: takeCounts().dispatches }
}

/** Why a figure is false: an engine that is lazy, or remembers a product, dispatches less than it is asked for. Null where each product has its dispatch. */
export function shortfall({ times, single, fewest }: Pick<Runner, 'times' | 'single' | 'fewest'>): string | null {
  return single >= 1 && fewest - single >= times - 1 ? null : `${fewest} dispatches for ${times} products, ${single} for one: no figure`
}

async function benchShape(shape: MatmulShape, engines: readonly string[], rounds: number, peak: Peak, problems: string[]): Promise<Row[]> {
  const { M, N, K } = shape
  const name = `matmul-${M}x${N}x${K}`
  const next = random(7)
  const fill = (count: number) => Float32Array.from({ length: count }, () => next() * 2 - 1)
  const [a, b] = [fill(M * K), fill(K * N)]
  const runners: Runner[] = []
  let expected: Float32Array | undefined
  for (const engine of engines) {
    try {
      const { createMatmul } = await ENGINES[engine]()
      if (!createMatmul) continue
      const matmul = await createMatmul(shape, a, b)
      const { dispatches: single } = await measure(matmul, 1)
      const times = await callsFor((n) => matmul.run(n), MEASURE_MS)
      const product = await matmul.read()
      expected ??= product
      const error = product.reduce((worst, x, i) => Math.max(worst, Math.abs(x - expected![i])), 0)
      if (!(error <= TOLERANCE) || product.length !== M * N) problems.push(`${name}, ${engine}: product off by ${error}`)
      runners.push({ engine, matmul, times, ms: [], single, fewest: Infinity })
    } catch (error) {
      problems.push(`${name}, ${engine}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < runners.length; i++) {
      const runner = runners[(round + i) % runners.length]
      const { ms, dispatches } = await measure(runner.matmul, runner.times)
      runner.ms.push(ms / runner.times)
      runner.fewest = Math.min(runner.fewest, dispatches)
    }
  }
  return runners.flatMap((runner) => {
    const { engine, matmul, ms } = runner
    matmul.dispose()
    const short = shortfall(runner)
    if (short !== null) {
      problems.push(`${name}, ${engine}: ${short}`)
      return []
    }
    const gflops = (2 * M * N * K) / median(ms) / 1e6
    const rates = { gflops, peak_gflops: peak.gflops, percent_of_peak: (100 * gflops) / peak.gflops }
    return rateRow('matmul', engine, median(ms), { m: M, n: N, k: K, layout: 'nn', dtype: 'f32', ...rates })
  })
}

export async function benchMatmuls(engines: readonly string[], rounds: number, peak: Peak, say: Say, problems: string[]): Promise<Row[]> {
  const rows: Row[] = []
  const others = engines.filter((e) => e !== 'naive')
  for (const shape of SHAPES) {
    const measured = await benchShape(shape, ['naive', ...others], rounds, peak, problems)
    say(`matmul ${shape.M}x${shape.N}x${shape.K}: ${measured.map((r) => `${r.engine} ${r.gflops!.toFixed(1)} GFLOP/s`).join(', ')}`)
    rows.push(...measured)
  }
  return rows
}
