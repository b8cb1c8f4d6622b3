/** @file Token rows while they are being collected, where each came from, repeated rows, and the seeded split into training and held-out rows. */
import { DataError } from '../errors.ts'
import { countTrained } from './labels.ts'
import type { Encoded } from './masks.ts'
import { permutation } from './shuffle.ts'
import type { TokenRows } from './types.ts'

/** Ids and labels of this many tokens are 2 GiB: beyond it a tab runs out of memory. */
const MAX_TOKENS = 2 ** 28
/** Tells the split's order from the epochs'. */
const SPLIT_STREAM = 0x5eed

/** 1 for each of `rows` rows that is held out: a seeded draw of `fraction` of them, at least one and not all. */
export function heldOut(rows: number, fraction: number, seed: number): Uint8Array<ArrayBuffer> {
  const count = fraction > 0 && rows > 1 ? Math.min(rows - 1, Math.max(1, Math.round(fraction * rows))) : 0
  const held = new Uint8Array(rows)
  for (const r of count ? permutation(rows, seed, SPLIT_STREAM).subarray(0, count) : []) held[r] = 1
  return held
}

const grown = (a: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> => {
  if (length <= a.length) return a
  const b = new Int32Array(Math.max(length, a.length * 2))
  b.set(a)
  return b
}

/** Where the usable rows are: index among all of them, in file order → file, line, side of the split and place there. */
export interface RowIndex {
  readonly file: Uint16Array
  readonly line: Float64Array
  readonly held: Uint8Array
  readonly place: Uint32Array
}
export interface SplitRows {
  readonly train: TokenRows
  readonly held: TokenRows | null
  readonly index: RowIndex
}

/** Two independent 32-bit hashes of a row's ids and labels as one number of 53 bits. Murmur3's mixing of each word. */
function fingerprint({ ids, labels }: Encoded): number {
  let a = 0x9747b28c
  let b = 0x3c6ef372
  for (let i = 0; i < ids.length; i++) {
    const word = (ids[i] ?? 0) ^ Math.imul((labels[i] ?? 0) + 101, 0x27d4eb2f)
    a = Math.imul(a ^ word, 0x85ebca6b)
    a ^= a >>> 13
    b = Math.imul(b ^ word, 0xc2b2ae35)
    b ^= b >>> 16
  }
  return (a >>> 0) * 2 ** 21 + ((b ^ ids.length) >>> 11)
}

/** Collects rows; `finish` gives them as flat arrays. */
export class RowStore {
  #ids = new Int32Array(2 ** 16)
  #labels = new Int32Array(2 ** 16)
  readonly #offsets: number[] = [0]
  readonly #files: number[] = []
  readonly #lines: number[] = []
  readonly #seen = new Set<number>()

  get rows(): number {
    return this.#files.length
  }
  get tokens(): number {
    return this.#offsets.at(-1) ?? 0
  }

  /** Has a row with the same ids and labels been met? Remembers it. */
  repeats(row: Encoded): boolean {
    const key = fingerprint(row)
    if (this.#seen.has(key)) return true
    this.#seen.add(key)
    return false
  }

  /** Throws DataError where the data set outgrows memory. */
  add({ ids, labels }: Encoded, file: number, line: number): void {
    const at = this.tokens
    const end = at + ids.length
    if (end > MAX_TOKENS)
      throw new DataError(`the data has more than ${MAX_TOKENS} tokens`, {
        why: 'They would not fit into the memory of a tab',
        fix: 'Train on a part of it',
      })
    this.#ids = grown(this.#ids, end)
    this.#labels = grown(this.#labels, end)
    this.#ids.set(ids, at)
    this.#labels.set(labels, at)
    this.#offsets.push(end)
    this.#files.push(file)
    this.#lines.push(line)
  }

  /** Rows split by a seeded draw: `fraction` of them, at least one and not all, are held out; both sides keep file order. Empties the store. */
  finish(fraction: number, seed: number): SplitRows {
    const n = this.rows
    const held = heldOut(n, fraction, seed)
    const place = new Uint32Array(n)
    const next = [0, 0]
    for (let r = 0; r < n; r++) {
      const side = held[r] ?? 0
      place[r] = next[side] ?? 0
      next[side] = (next[side] ?? 0) + 1
    }
    const index: RowIndex = { file: Uint16Array.from(this.#files), line: Float64Array.from(this.#lines), held, place }
    const train = this.#gather(held, 0)
    const heldRows = held.includes(1) ? this.#gather(held, 1) : null
    this.#ids = this.#labels = new Int32Array(0)
    return { train, held: heldRows, index }
  }

  #gather(held: Uint8Array, side: number): TokenRows {
    const rows: number[] = []
    let tokens = 0
    held.forEach((h, r) => {
      if (h !== side) return
      rows.push(r)
      tokens += (this.#offsets[r + 1] ?? 0) - (this.#offsets[r] ?? 0)
    })
    const out = { ids: new Int32Array(tokens), labels: new Int32Array(tokens), offsets: new Uint32Array(rows.length + 1) }
    let at = 0
    rows.forEach((r, i) => {
      const from = this.#offsets[r] ?? 0
      const to = this.#offsets[r + 1] ?? 0
      out.ids.set(this.#ids.subarray(from, to), at)
      out.labels.set(this.#labels.subarray(from, to), at)
      at += to - from
      out.offsets[i + 1] = at
    })
    return out
  }
}

/** Does a row ask for a prediction at all? */
export const hasTrained = ({ labels }: Encoded): boolean => countTrained(Int32Array.from(labels), 0, labels.length) > 0
