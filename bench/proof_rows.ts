/** @file The data file of the proof run: rows in such an order that the studio, with its own split, holds out exactly those that the reference did, and trains on the others in the reference's order. */
import { heldOut } from '../src/data/row_store.ts'

/** The studio's own: a tenth of the rows, drawn with seed 0. */
export const SPLIT = { fraction: 0.1, seed: 0 } as const

/** test/golden/proof_rows.json: line numbers of the data file, from 0. */
export interface ProofRows {
  readonly file: string
  readonly sha256: string
  readonly rows: number
  readonly held_out: readonly number[]
  readonly train: readonly number[]
}

/** Line numbers in the order of the proof's file: ten times as many as are held out. */
export function proofOrder({ held_out, train }: ProofRows): number[] {
  const held = heldOut(held_out.length / SPLIT.fraction, SPLIT.fraction, SPLIT.seed)
  const next = { held: 0, train: 0 }
  return Array.from(held, (h) => (h === 1 ? held_out[next.held++] : train[next.train++]))
}

/** The file itself, of the lines of the whole data file. */
export const proofFile = (lines: readonly string[], rows: ProofRows): string =>
  proofOrder(rows)
    .map((i) => `${lines[i]}\n`)
    .join('')
