/** @file What the adapter can do at most, measured: every "% of peak" is against one of the two, of the same run. */
import { measureCopy } from './peak_copy.ts'
import { measureFma } from './peak_fma.ts'
import { rateRow, type Row } from './report.ts'

export interface Peak {
  /** 10⁹ f32 operations a second; a fused multiply-add is two. Units that multiply matrices can pass it. */
  readonly gflops: number
  /** 10⁹ bytes a second, read and written both counted. Data that stay in a cache can pass it. */
  readonly gbPerSecond: number
  readonly rows: readonly Row[]
}

export async function measurePeak(): Promise<Peak> {
  const [fma, copy] = [await measureFma(), await measureCopy()]
  return {
    gflops: fma.gflops,
    gbPerSecond: copy.gbPerSecond,
    rows: [
      rateRow('peak-fma', 'adapter', fma.ms, { gflops: fma.gflops, by: fma.by, rounds: fma.rounds }),
      rateRow('peak-copy', 'adapter', copy.ms, { gb_per_s: copy.gbPerSecond, by: copy.by, rounds: copy.rounds }),
    ],
  }
}

/** Of a call that takes `ms`: its rate, and its share of the adapter's. @param work operations, or bytes read and written, of one call. */
export const arithmeticRates = (peak: Peak, work: number, ms: number): Partial<Row> => {
  const gflops = work / ms / 1e6
  return { gflops, peak_gflops: peak.gflops, percent_of_peak: (100 * gflops) / peak.gflops }
}
export const memoryRates = (peak: Peak, work: number, ms: number): Partial<Row> => {
  const gb_per_s = work / ms / 1e6
  return { gb_per_s, percent_of_peak: (100 * gb_per_s) / peak.gbPerSecond }
}
