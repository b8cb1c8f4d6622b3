/** @file Packing: several short rows in one sequence, so that less of a batch is padding. */
import type { TokenRows } from './types.ts'

/** How many sequences stay open for a row that fits: more fill better, fewer keep rows closer to the given order. */
const OPEN = 32

/**
 * Rows, in the order given, into sequences of at most `seq` tokens: each row (cut at `seq`) goes to the first open sequence with room, else it
 * opens one; of more than 32 open ones the oldest is closed. First-fit, bounded: O(rows), the same result every time. Rows are never split.
 */
export function packSequences(data: TokenRows, rows: Uint32Array, seq: number): number[][] {
  const done: number[][] = []
  const open: { rows: number[]; room: number }[] = []
  for (const r of rows) {
    const n = Math.min((data.offsets[r + 1] ?? 0) - (data.offsets[r] ?? 0), seq)
    const fits = open.findIndex((s) => s.room >= n)
    const found = open[fits]
    if (found) {
      found.rows.push(r)
      found.room -= n
      if (found.room === 0) done.push(...open.splice(fits, 1).map((s) => s.rows))
    } else {
      if (open.length >= OPEN) done.push(...open.splice(0, 1).map((s) => s.rows))
      open.push({ rows: [r], room: seq - n })
    }
  }
  return [...done, ...open.map((s) => s.rows)]
}
