/** @file Reads bench/results from disk, for the page that is made of it. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Proof } from './proof_page.ts'
import type { Report } from './page/report.ts'
import type { Results } from './results_page.ts'

export function readResults(folder = join(import.meta.dirname, 'results')): Results {
  const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'))
  const names = readdirSync(folder)
    .filter((n) => n.endsWith('.json'))
    .sort()
  return {
    reports: new Map(names.filter((n) => n !== 'proof.json').map((n) => [n.replace(/\.json$/, ''), read(n) as Report])),
    proof: names.includes('proof.json') ? (read('proof.json') as Proof) : null,
  }
}
