/** @file What the bench measures, as rows: a case and an engine a row. Shared by all cases; the command prints and writes them. */

export interface Row {
  /** `lora-step`, `full-step`, `matmul-MxNxK`, `peak-fma`, `peak-copy`. */
  readonly case: string
  readonly engine: string
  /** Median wall time, in milliseconds, from the call to the value read back (steps) or to the GPU's last dispatch (the others). */
  readonly ms: number
  readonly dispatches: number | null
  readonly submits: number | null
  /** Null where an engine does not plan its memory. */
  readonly planned_bytes: number | null
  readonly allocated_bytes: number | null
  readonly tokens_per_s: number | null
  readonly gflops?: number
  readonly gb_per_s?: number
  /** Percent of the adapter's measured FMA rate. */
  readonly percent_of_peak?: number
  readonly first_loss?: number
  readonly last_loss?: number
}

/** Says a line of progress. */
export type Say = (line: string) => void

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** A row of a case that is not a training step. */
export function rateRow(name: string, engine: string, ms: number, rates: Partial<Row>): Row {
  return {
    case: name,
    engine,
    ms,
    dispatches: null,
    submits: null,
    planned_bytes: null,
    allocated_bytes: null,
    tokens_per_s: null,
    ...rates,
  }
}
