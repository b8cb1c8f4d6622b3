/** @file What the bench measures, as rows: a case and an engine a row. Shared by all cases; the command prints and writes them. */

export interface Row {
  /** `lora-step`, `full-step`, `forward`, `matmul`, `attention`, `norm`, `cross-entropy`, `adamw` (a whole optimizer step, or its pass `update`), `smollm2-lora-BxT`, `smollm2-prefill`, `smollm2-decode`, `smollm2-decode-floor`, `sweep-sequence|batch|rank`, `memory`, `tuning`, `peak-fma`, `peak-copy`. */
  readonly case: string
  /** A peer's name, `etude`, `etude-tile` (its kernel for adapters that nothing is known of), `etude-matrix` (subgroup matrices), `etude-dot` (packed products), `naive`, or `adapter` for what the adapter itself can do. */
  readonly engine: string
  /**
   * In milliseconds. Steps: median wall time from the call to the value read back. The others: median of a call's share of many calls at once, from their
   * submit (of Etude's kernels) or their recording (of all others) to the GPU's last dispatch. Peaks: the best. `tuning`: what it took. 0 in `memory`, which runs nothing.
   */
  readonly ms: number
  /** Measured rounds that `ms` is the median of, those to warm up left out. */
  readonly rounds?: number
  readonly dispatches: number | null
  readonly submits: number | null
  /** Null where an engine does not plan its memory. */
  readonly planned_bytes: number | null
  readonly allocated_bytes: number | null
  readonly tokens_per_s: number | null
  readonly gflops?: number
  readonly gb_per_s?: number
  /** The adapter's measured FMA rate, of the same run, and how much of it was reached; where `gb_per_s` is given, of its measured copy rate. */
  readonly peak_gflops?: number
  readonly percent_of_peak?: number
  readonly first_loss?: number
  readonly last_loss?: number

  /** Of a peak: the loop or the copy that reached it. */
  readonly by?: string
  /** Of `tuning`: choice by class of products (src/kernels/matmul.ts); `notes`: paths that the self-check switched off. */
  readonly choices?: Readonly<Record<string, string>>
  readonly notes?: readonly string[]

  /** Of a product: C [m, n], k products a sum; as in src/kernels/matmul.ts, and the format of the weight. Of `norm` and `cross-entropy`: rows and width; of `adamw`: n parameters. */
  readonly m?: number
  readonly n?: number
  readonly k?: number
  readonly layout?: 'nt' | 'nn' | 'tn'
  readonly dtype?: string

  /** Of a kernel that has several: `dq`, `dkv` are attention's gradients by q and by k and v; `update`: AdamW without the norm of the gradient. */
  readonly pass?: 'forward' | 'backward' | 'dq' | 'dkv' | 'update'
  /** Of `attention`, over `seq` tokens of one row: heads of q, heads of k and v, and their width. */
  readonly heads?: number
  readonly kv_heads?: number
  readonly head_dim?: number

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
export const withoutTime = (name: string, values: Partial<Row>): Row => ({ ...rateRow(name, 'etude', 0, { rounds: 0 }), ...values })
