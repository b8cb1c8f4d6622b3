/** @file A hot kernel from naive to best: every rung does the same work, its result is held against the first rung's, and each of its passes is timed. */
import { type Measured, measure, type Run } from './timing.ts'
import { rateRow, type Row, type Say } from './report.ts'

export interface Rung {
  readonly engine: string
  /** Makes it: buffers filled, pipelines compiled. */
  readonly make: () => Promise<Work>
  /** The others are held against it, and that is all. */
  readonly untimed?: boolean
}
export interface Work {
  /** One for each pass of the ladder, in the order in which they feed each other. */
  readonly runs: readonly Run[]
  /** What each pass has computed. */
  readonly results: () => Promise<readonly Float32Array[]>
  readonly dispose: () => void
}
export interface Pass {
  /** Absent where there is one alone. */
  readonly pass?: Row['pass']
  /** Norm of the difference to the first rung, relative to its norm, at most. */
  readonly tolerance: number
  /** What `ms` a call makes of its work. */
  readonly rates: (ms: number) => Partial<Row>
}
export interface Ladder {
  readonly case: string
  /** As in messages: the sizes. */
  readonly name: string
  readonly sizes: Partial<Row>
  readonly passes: readonly Pass[]
  readonly rungs: readonly Rung[]
}
export interface Climb {
  readonly rounds: number
  readonly say: Say
  /** Gains a line for each rung that failed, or whose result differs. */
  readonly problems: string[]
}

/** Norm of the difference over the norm of what is expected; infinite where lengths differ. */
export function offBy(result: Float32Array, expected: Float32Array): number {
  if (result.length !== expected.length) return Infinity
  let [difference, whole] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += (result[i] - expected[i]) ** 2
    whole += expected[i] ** 2
  }
  return Math.sqrt(difference / whole)
}

/** Rows of every pass and rung. One rung is on the GPU at a time. */
export async function climb({ case: name, name: what, sizes, passes, rungs }: Ladder, { rounds, say, problems }: Climb): Promise<Row[]> {
  const rows: Row[] = []
  let expected: readonly Float32Array[] | null = null
  for (const { engine, make, untimed } of rungs) {
    let work: Work | null = null
    try {
      work = await make()
      for (const run of work.runs) await run(1)
      // Before the clock: what is updated in place is another thing after the second call.
      const results = await work.results()
      expected ??= results
      passes.forEach(({ pass, tolerance }, i) => {
        const error = offBy(results[i], expected![i])
        if (!(error <= tolerance)) problems.push(`${[name, pass, what].filter(Boolean).join(' ')}, ${engine}: result off by ${error}`)
      })
      if (untimed) continue
      const measured: Measured[] = []
      for (const run of work.runs) measured.push(await measure(run, rounds))
      passes.forEach(({ pass, rates }, i) => {
        const { ms, rounds: taken } = measured[i]
        rows.push(rateRow(name, engine, ms, { ...sizes, ...(pass && { pass }), ...rates(ms), rounds: taken }))
      })
    } catch (error) {
      problems.push(`${name} ${what}, ${engine}: ${error instanceof Error ? error.message : String(error)}`)
    } finally {
      work?.dispose()
    }
  }
  return passes.flatMap(({ pass }) => {
    const found = rows.filter((r) => r.pass === pass)
    const said = found.map((r) => `${r.engine} ${(r.gflops ?? r.gb_per_s!).toFixed(1)}`)
    const unit = found.some((r) => r.gflops !== undefined) ? 'GFLOP/s' : 'GB/s'
    say(`${[name, pass, what].filter(Boolean).join(' ')}: ${said.join(', ')} ${unit}`)
    return found
  })
}
