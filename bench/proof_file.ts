/** @file Writes the proof's data file: `node scripts/run.mjs bench/proof_file.ts LINES.json OUT.jsonl`. LINES.json: the lines of the whole data file. Part of scripts/proof.mjs. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { proofFile, type ProofRows } from './proof_rows.ts'

const [lines, out] = process.argv.slice(2)
const rows = JSON.parse(readFileSync(join(import.meta.dirname, '../test/golden/proof_rows.json'), 'utf8')) as ProofRows
writeFileSync(out, proofFile(JSON.parse(readFileSync(lines, 'utf8')) as string[], rows))
