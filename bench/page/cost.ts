/** @file What a step costs as it grows: by length, by rows, by rank. */
import { lineChart } from '../charts.ts'
import type { Row } from '../report.ts'
import { caseOf, type Part } from './report.ts'

function sweepChart(rows: readonly Row[], name: string, axis: string, of: (r: Row) => number): string | null {
  const points = caseOf(rows, name).map((r) => [of(r), r.ms] as const)
  if (points.length < 2) return null
  return lineChart(
    `A LoRA step of the bench model by ${axis}`,
    [{ name: 'Etude', points, tone: 0 }],
    { label: axis, log: true },
    { label: 'ms', log: true },
  )
}

export function costPart({ rows, picture }: Part): string[] {
  const sweep = (name: string, alt: string, axis: string, of: (r: Row) => number): string[] =>
    picture(name, alt, sweepChart(rows, `sweep-${name}`, axis, of))
  return [
    ...sweep('sequence', 'Step time by tokens of a row', 'tokens of a row', (r) => r.seq!),
    ...sweep('batch', 'Step time by rows', 'rows of 128 tokens', (r) => r.batch!),
    ...sweep('rank', 'Step time by rank', 'rank', (r) => r.rank!),
  ]
}
