/** @file GPU memory of a LoRA run on real shapes, policy by policy. */
import { type Bar, barChart } from '../charts.ts'
import type { Row } from '../report.ts'
import { grouped, megabytes, NONE, table } from './markdown.ts'
import { caseOf, type Part } from './report.ts'

function memoryChart(planned: readonly Row[]): string {
  const bars = [...grouped(planned, (r) => `${r.model}, ${r.batch}×${r.seq} tokens, base ${r.base}`)].flatMap(([heading, of]) =>
    of.map((r, i): Bar => ({
      label: r.policy!,
      value: r.planned_bytes!,
      text: `${megabytes(r.planned_bytes)} MB`,
      tone: 0,
      ...(i === 0 && { heading }),
    })),
  )
  return barChart('Memory of a LoRA run (r = 8 on all linear layers) by policy', bars)
}

export function memoryPart({ rows, picture }: Part): string[] {
  const planned = caseOf(rows, 'memory')
  if (planned.length === 0) return []
  const cells = (r: Row) => [`${r.model}, ${r.policy}`, megabytes(r.planned_bytes), megabytes(r.allocated_bytes), r.dispatches ?? NONE]
  return [
    ...picture('memory', 'Planned memory by policy', memoryChart(planned)),
    'A plan needs no memory, so every policy is planned; only `fast` and `lean` are then allocated too, to see that the plan is what it takes (– elsewhere).',
    '',
    table(['model, policy', 'planned MB', 'allocated MB', 'dispatches a step'], planned.map(cells)),
    '',
  ]
}
