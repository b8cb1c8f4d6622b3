/** @file LoRA steps of SmolLM2-135M, and the same by PyTorch where it was measured on that machine. */
import type { Row } from '../report.ts'
import { NONE, megabytes, number, table, times } from './markdown.ts'
import type { Part, Report } from './report.ts'

const ownSteps = (rows: readonly Row[]): readonly Row[] => rows.filter((r) => r.case.startsWith('smollm2-lora-') && r.engine === 'etude')
const sizeOf = (r: Row): string => `${r.batch}×${r.seq}`

function stepTable(rows: readonly Row[]): string[] {
  const steps = ownSteps(rows)
  if (steps.length === 0) return []
  const head = ['rows × tokens', 'base', 'policy', 'ms', 'tokens/s', 'GFLOP', 'GFLOP/s', '% of peak', 'dispatches', 'submits']
  const cells = (r: Row) => [
    sizeOf(r),
    r.base ?? NONE,
    r.policy ?? NONE,
    number(r.ms),
    number(r.tokens_per_s),
    number(r.gflop),
    number(r.gflops, 1),
    number(r.percent_of_peak),
    r.dispatches ?? NONE,
    r.submits ?? NONE,
    megabytes(r.planned_bytes),
    megabytes(r.allocated_bytes),
  ]
  return [table([...head, 'planned MB', 'allocated MB'], steps.map(cells)), '']
}

/** Time of PyTorch over time of Etude: above 1, Etude is faster. */
function torchTable({ torch }: Report, rows: readonly Row[]): string[] {
  const theirs = rows.filter((r) => r.case.startsWith('smollm2-lora-') && r.engine === 'torch')
  const both = ownSteps(rows).filter((own) => theirs.some((t) => t.case === own.case))
  if (both.length === 0) return []
  const [{ rounds }] = theirs
  const bases = ['f32', 'bf16'].filter((base) => theirs.some((t) => t.base === base))
  const cells = (own: Row) => [
    `${sizeOf(own)}, base ${own.base}`,
    number(own.ms),
    ...bases.flatMap((base) => {
      const other = theirs.find((t) => t.case === own.case && t.base === base)
      return [number(other?.ms), times(other?.ms, own.ms)]
    }),
  ]
  return [
    `The same step by PyTorch, Transformers and PEFT${torch ? ` (${torch})` : ''}, by \`bench/torch_peft.py\`${rounds === undefined ? '' : `, medians of ${rounds} rounds`}:`,
    '',
    table(['rows × tokens', 'Etude, ms', ...bases.flatMap((b) => [`PyTorch ${b}, ms`, 'Etude is × as fast'])], both.map(cells)),
    '',
  ]
}

export const smollm2Part = ({ report, rows }: Part): string[] => [...stepTable(rows), ...torchTable(report, rows)]
