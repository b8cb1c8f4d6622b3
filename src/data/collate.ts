/** @file Rows to batches: order, cutting, padding, packing, the label shift. Deterministic: a cursor says exactly what comes next. */
import { RunError } from '../errors.ts'
import { countTrained, IGNORE } from './labels.ts'
import { packSequences } from './pack.ts'
import { permutation } from './shuffle.ts'
import { rowCount, type TokenRows } from './types.ts'

/** One micro-batch. B sequences of T positions, row-major [B, T], padded on the right. Padding is known by position (`lengths`), never by id. */
export interface Batch {
  readonly B: number
  /** Longest sequence of this micro-batch, rounded up to a multiple of 8. */
  readonly T: number
  /** Token ids; 0 at padding. */
  readonly ids: Int32Array<ArrayBuffer>
  /** What position t must predict: the label of t + 1; -100 where nothing is asked (the last position of a segment, padding, context). */
  readonly labels: Int32Array<ArrayBuffer>
  /** Tokens before the padding, per sequence [B]. */
  readonly lengths: Int32Array<ArrayBuffer>
  /** Position ids [B, T]: they start again at 0 in each packed row; 0 at padding. */
  readonly positions: Int32Array<ArrayBuffer>
  /** Index in its sequence of the first token of the packed row a position belongs to [B, T]: attention may look back to there. Padding: its own index. */
  readonly segmentStart: Int32Array<ArrayBuffer>
  /** Labels that are not -100. */
  readonly labelled: number
  /** Data rows in it (more than B where rows are packed). */
  readonly rows: readonly number[]
}

export interface BatchOptions {
  /** Sequences per micro-batch. */
  readonly batch: number
  /** Rows are cut at this many tokens. */
  readonly seq: number
  /** Micro-batches per optimizer step. */
  readonly accum: number
  readonly seed: number
  /** A new seeded order each epoch; otherwise file order, wrapping at the end. */
  readonly shuffle: boolean
  /** Fill sequences of `seq` with several rows. */
  readonly pack: boolean
}

/** Where a BatchSource stands. Plain data: stored in checkpoints. */
export interface BatchCursor {
  readonly epoch: number
  /** Sequences of this epoch already given out. */
  readonly index: number
}

/** Is there a row with a trained token within its first `seq`? */
function hasLabel(data: TokenRows, seq: number): boolean {
  for (let r = 0; r < rowCount(data); r++) {
    const from = at(data.offsets, r)
    if (countTrained(data.labels, from, Math.min(at(data.offsets, r + 1), from + seq)) > 0) return true
  }
  return false
}

const roundUp8 = (n: number): number => Math.ceil(n / 8) * 8

/** Lay sequences, each one or more rows one after another, into a batch. T is at most `seq` rounded up to a multiple of 8. */
export function collate(data: TokenRows, sequences: readonly (readonly number[])[], seq: number): Batch {
  const B = sequences.length
  const cut = (r: number): number => Math.min(at(data.offsets, r + 1) - at(data.offsets, r), seq)
  const lengths = Int32Array.from(sequences, (rows) => rows.reduce((n, r) => n + cut(r), 0))
  const T = roundUp8(Math.max(1, ...lengths))
  const ids = new Int32Array(B * T)
  const labels = new Int32Array(B * T).fill(IGNORE)
  const positions = new Int32Array(B * T)
  const segmentStart = new Int32Array(B * T)
  let labelled = 0
  sequences.forEach((rows, b) => {
    let t = 0
    for (const r of rows) {
      const from = at(data.offsets, r)
      const n = cut(r)
      const to = b * T + t
      ids.set(data.ids.subarray(from, from + n), to)
      for (let i = 0; i < n; i++) {
        positions[to + i] = i
        segmentStart[to + i] = t
        const label = i + 1 < n ? at(data.labels, from + i + 1) : IGNORE
        labels[to + i] = label
        if (label !== IGNORE) labelled++
      }
      t += n
    }
    for (; t < T; t++) segmentStart[b * T + t] = t
  })
  return { B, T, ids, labels, lengths, positions, segmentStart, labelled, rows: sequences.flat() }
}

const at = (a: Int32Array | Uint32Array, i: number): number => a[i] ?? 0

/** The sequences of one epoch, in order; each is the rows in it. */
interface Epoch {
  readonly epoch: number
  readonly length: number
  at(i: number): readonly number[]
}

/** An endless stream of micro-batches over rows. `batch` × `accum` sequences make one optimizer step; the last one of an epoch runs on into the next. */
export class BatchSource {
  #epoch = 0
  #index = 0
  #order: Epoch | null = null

  /** Throws RunError where there is no row, or no trained token within `seq`. */
  constructor(
    readonly data: TokenRows,
    readonly options: BatchOptions,
    cursor?: BatchCursor,
  ) {
    if (rowCount(data) === 0)
      throw new RunError('there is no row to train on', { where: 'training data', fix: 'Choose data with at least one usable row' })
    if (!hasLabel(data, options.seq))
      throw new RunError(`no token is trained: cut at ${options.seq} tokens, no row has a label left`, {
        where: 'training data',
        why: 'The loss would be zero and nothing would be learned',
        fix: 'Allow longer rows, or check which part of the rows is trained',
      })
    if (cursor) this.cursor = cursor
  }

  get cursor(): BatchCursor {
    return { epoch: this.#epoch, index: this.#index }
  }
  set cursor(c: BatchCursor) {
    if (![c.epoch, c.index].every((n) => Number.isSafeInteger(n) && n >= 0))
      throw new RunError('the data cursor is damaged', { where: `epoch ${c.epoch}, row ${c.index}` })
    this.#epoch = c.epoch
    this.#index = c.index
  }

  /** Sequences of the current epoch: rows, or packed rows. */
  get sequencesPerEpoch(): number {
    return this.#sequences().length
  }
  /** Optimizer steps in one pass over the data, rounded up. */
  get stepsPerEpoch(): number {
    return Math.ceil(this.sequencesPerEpoch / (this.options.batch * this.options.accum))
  }

  /** The next micro-batch; moves the cursor on by `batch` sequences. */
  next(): Batch {
    const sequences = Array.from({ length: this.options.batch }, () => this.#take())
    return collate(this.data, sequences, this.options.seq)
  }

  /** The micro-batches of one optimizer step. */
  step(): Batch[] {
    return Array.from({ length: this.options.accum }, () => this.next())
  }

  #take(): readonly number[] {
    let epoch = this.#sequences()
    while (this.#index >= epoch.length) {
      this.#index -= epoch.length
      this.#epoch++
      epoch = this.#sequences()
    }
    return epoch.at(this.#index++)
  }

  #sequences(): Epoch {
    const { shuffle, seed, pack, seq } = this.options
    const epoch = shuffle ? this.#epoch : 0
    if (this.#order?.epoch === epoch) return this.#order
    const n = rowCount(this.data)
    const rows = shuffle ? permutation(n, seed, epoch) : Uint32Array.from({ length: n }, (_, i) => i)
    const packed = pack ? packSequences(this.data, rows, seq) : null
    this.#order = { epoch, length: packed?.length ?? n, at: (i) => packed?.[i] ?? [rows[i] ?? 0] }
    return this.#order
  }
}

/** Each row once, in file order, at most `batch` in a micro-batch. Rows left without a label by the cut are skipped: they have no loss. */
export function* evalBatches(data: TokenRows, batch: number, seq: number): Generator<Batch> {
  let rows: number[][] = []
  for (let r = 0; r < rowCount(data); r++) {
    const from = at(data.offsets, r)
    const to = Math.min(at(data.offsets, r + 1), from + seq)
    if (countTrained(data.labels, from, to) === 0) continue
    rows.push([r])
    if (rows.length === batch) {
      yield collate(data, rows, seq)
      rows = []
    }
  }
  if (rows.length) yield collate(data, rows, seq)
}
