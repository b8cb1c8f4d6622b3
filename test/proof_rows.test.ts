/** The studio's split of the proof's file against the reference's rows: exactly the same 64 held out, and the others in the reference's order. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { proofFile, type ProofRows, SPLIT } from '../bench/proof_rows.ts'
import { buildDataset } from '../src/data/dataset.ts'
import { DEFAULT_DATA_OPTIONS } from '../src/data/report.ts'
import { fromBytes } from '../src/io/sources.ts'

const ROWS = JSON.parse(readFileSync(new URL('./golden/proof_rows.json', import.meta.url), 'utf8')) as ProofRows

test('every line is held out or trained on, none of them both', () => {
  expect(ROWS.held_out).toHaveLength(64)
  expect([...ROWS.held_out, ...ROWS.train].sort((a, b) => a - b)).toEqual(Array.from({ length: ROWS.rows }, (_, i) => i))
})

test('the studio holds out what the reference does, and trains in its order', async () => {
  // Rows that are already tokenised, and say which line they are.
  const lines = Array.from({ length: ROWS.rows }, (_, i) => JSON.stringify({ input_ids: [1, i, 2] }))
  const file = fromBytes('rows.jsonl', new TextEncoder().encode(proofFile(lines, ROWS)))
  const set = await buildDataset([file], null, { ...DEFAULT_DATA_OPTIONS, evalFraction: SPLIT.fraction, seed: SPLIT.seed, vocabSize: 1000 })
  const linesOf = (ids: Int32Array): number[] => Array.from(ids).filter((_, i) => i % 3 === 1)
  expect(linesOf(set.held!.ids)).toEqual(ROWS.held_out)
  // 120 steps of 4 rows use 480 of them.
  expect(linesOf(set.train.ids)).toEqual(ROWS.train.slice(0, 576))
})
