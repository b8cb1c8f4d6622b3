/** @file Per-step points of a run as growing typed arrays, outside React state: appending is O(1) and a chart reads the columns without a copy.
 * A subscriber is told that something changed, not what; it reads `version`. Also smoothing, over one column. */
import type { StepRecord } from '../../train/run_config.ts'

const COLUMNS = ['step', 'loss', 'grad_norm', 'lr', 'tokens', 'ms'] as const
type Column = (typeof COLUMNS)[number]

/** Time constant of the smoothed curve as a share of what is there: gentle at first, firm later. In steps, 2 to 100. */
const SMOOTHING_SHARE = 0.05

export class PointSeries {
  #columns: Record<Column, Float64Array<ArrayBuffer>>
  #smooth: Float64Array<ArrayBuffer>
  #capacity = 256
  #length = 0
  #version = 0
  readonly #listeners = new Set<() => void>()

  constructor(records: readonly StepRecord[] = []) {
    this.#columns = Object.fromEntries(COLUMNS.map((c) => [c, new Float64Array(this.#capacity)])) as Record<
      Column,
      Float64Array<ArrayBuffer>
    >
    this.#smooth = new Float64Array(this.#capacity)
    for (const r of records) this.#append(r)
  }

  get length(): number {
    return this.#length
  }
  /** Changes whenever the points do. */
  get version(): number {
    return this.#version
  }

  /** Points so far of one column: a view that is valid until the next append. */
  column(name: Column): Float64Array {
    return this.#columns[name].subarray(0, this.#length)
  }

  /** Record i, 0-based; undefined past the end. */
  at(i: number): StepRecord | undefined {
    if (i < 0 || i >= this.#length) return undefined
    const c = this.#columns
    const v = (name: Column): number => c[name][i] ?? NaN
    return { step: v('step'), loss: v('loss'), grad_norm: v('grad_norm'), lr: v('lr'), tokens: v('tokens'), ms: v('ms') }
  }
  last(): StepRecord | undefined {
    return this.at(this.#length - 1)
  }

  /** Add a step. A step that is not later than the last one starts over from there: a run resumed from an earlier checkpoint. */
  push(record: StepRecord): void {
    this.#append(record)
    this.#changed()
  }
  #append(record: StepRecord): void {
    const steps = this.#columns.step
    while (this.#length > 0 && (steps[this.#length - 1] ?? 0) >= record.step) this.#length--
    if (this.#length === this.#capacity) this.#grow()
    for (const c of COLUMNS) this.#columns[c][this.#length] = record[c]
    this.#length++
  }
  #grow(): void {
    this.#capacity *= 2
    for (const c of COLUMNS) {
      const bigger = new Float64Array(this.#capacity)
      bigger.set(this.#columns[c])
      this.#columns[c] = bigger
    }
    this.#smooth = new Float64Array(this.#capacity)
  }
  #changed(): void {
    this.#version++
    for (const l of this.#listeners) l()
  }

  /** The loss, smoothed; a view that is valid until the next call. */
  smoothed(): Float64Array {
    const weight = smoothingWeight(this.#length)
    return smooth(this.column('loss'), weight, this.#smooth).subarray(0, this.#length)
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

/** Weight of the past in the moving average for n points. */
export function smoothingWeight(n: number): number {
  const steps = Math.min(100, Math.max(2, n * SMOOTHING_SHARE))
  return 1 - 1 / steps
}

/** Exponential moving average, corrected for its start as Adam's moments are (so the first value is the first point); skips what is not finite. */
export function smooth(values: ArrayLike<number>, weight: number, out = new Float64Array(values.length)): Float64Array {
  let sum = 0
  let norm = 0
  for (let i = 0; i < values.length; i++) {
    const v = values[i] ?? NaN
    if (Number.isFinite(v)) {
      sum = weight * sum + (1 - weight) * v
      norm = weight * norm + (1 - weight)
    }
    out[i] = norm > 0 ? sum / norm : NaN
  }
  return out
}

/** Median of the last `n` values of a column: a step that waited for something does not move it. */
export function recentMedian(values: Float64Array, n: number): number {
  const recent = values
    .subarray(Math.max(0, values.length - n))
    .slice()
    .sort()
  const mid = recent.length >> 1
  if (recent.length === 0) return NaN
  return recent.length % 2 ? (recent[mid] ?? NaN) : ((recent[mid - 1] ?? NaN) + (recent[mid] ?? NaN)) / 2
}

/** Time left in ms: steps left × the recent median step; null while nothing is known. */
export function timeLeft(series: PointSeries, steps: number): number | null {
  const last = series.last()
  if (!last) return null
  const left = steps - last.step
  return left <= 0 ? 0 : left * recentMedian(series.column('ms'), 20)
}

/** Labelled tokens a second over the last steps; null while nothing is known. */
export function tokensPerSecond(series: PointSeries, n = 20): number | null {
  const tokens = series.column('tokens')
  const ms = series.column('ms')
  let t = 0
  let time = 0
  for (let i = Math.max(0, tokens.length - n); i < tokens.length; i++) {
    t += tokens[i] ?? 0
    time += ms[i] ?? 0
  }
  return time > 0 ? (1000 * t) / time : null
}
