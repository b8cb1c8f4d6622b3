/** @file What the bench measures, as rows: a case and an engine a row. Shared by all cases; the command prints and writes them. */

export interface Row {
  /** `lora-step`, `full-step`, `forward`, `matmul`, `adamw`, `smollm2-lora-BxT`, `smollm2-prefill`, `smollm2-decode`, `smollm2-decode-floor`, `sweep-sequence|batch|rank`, `memory`, `peak-fma`, `peak-copy`. */
  readonly case: string
  /** A peer's name, `etude`, `etude-tile` (its kernel for adapters that nothing is known of), `etude-matrix` (subgroup matrices), `etude-dot` (packed products), `naive`, or `adapter` for what the adapter itself can do. */
  readonly engine: string
  /** 0 in `memory`, which runs nothing. Median wall time, in milliseconds, from the call to the value read back (steps) or to the GPU's last dispatch (the others). */
  readonly ms: number
  readonly dispatches: number | null
  readonly submits: number | null
  /** Null where an engine does not plan its memory. */
  readonly planned_bytes: number | null
  readonly allocated_bytes: number | null
  readonly tokens_per_s: number | null
  readonly gflops?: number
  readonly gb_per_s?: number
  /** The adapter's measured FMA rate, of the same run, and how much of it was reached; for `adamw` and `smollm2-decode`, of its measured copy rate. */
  readonly peak_gflops?: number
  readonly percent_of_peak?: number
  readonly first_loss?: number
  readonly last_loss?: number

  /** Of a product: C [m, n], k products a sum; as in src/kernels/matmul.ts, and the format of the weight. */
  readonly m?: number
  readonly n?: number
  readonly k?: number
  readonly layout?: 'nt' | 'nn' | 'tn'
  readonly dtype?: string

  /** Of a step: what it was planned with (src/train/run_config.ts). */
  readonly batch?: number
  readonly seq?: number
  readonly rank?: number
  readonly base?: string
  readonly policy?: string
  /** Of `memory`: the model whose shapes were planned, and planned bytes by class. */
  readonly model?: string
  readonly by_class?: Readonly<Record<string, number>>
  /** Weights that the step ran on: the real ones, or random ones of the same shapes. */
  readonly weights?: 'real' | 'random'
  /** 10⁹ operations that the step's arithmetic needs (bench/flops.ts); what a policy computes twice counts once. */
  readonly gflop?: number
}

/** Operations a second of a step of `gflop`, and their share of what the adapter can do. */
export function shareOf(gflop: number, ms: number, peak: { readonly gflops: number }): Partial<Row> {
  const gflops = (1000 * gflop) / ms
  return { gflop, gflops, peak_gflops: peak.gflops, percent_of_peak: (100 * gflops) / peak.gflops }
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

/** A row of something that was counted and not run. */
export const withoutTime = (name: string, values: Partial<Row>): Row => ({ ...rateRow(name, 'etude', 0, {}), ...values })
