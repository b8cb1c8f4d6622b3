/** @file Etude beside other libraries: training steps of the bench model, what bounds them, and the forward pass alone. */
import { barChart } from '../charts.ts'
import type { Row } from '../report.ts'
import { grouped, megabytes, NONE, number, range, table, times } from './markdown.ts'
import { type Standing, standingOf } from './peers.ts'
import { caseOf, isPeerProduct, nameOf, type Part, peakOf, toneOf } from './report.ts'

const CASES = { 'lora-step': 'LoRA, r = 8', 'full-step': 'Full fine-tuning' } as const
const stepsOf = (rows: readonly Row[]): readonly Row[] => rows.filter((r) => r.case in CASES)
const caseName = (r: Row): string => CASES[r.case as keyof typeof CASES]

function stepChart(rows: readonly Row[]): string | null {
  const steps = stepsOf(rows)
  if (steps.length === 0) return null
  const bars = [...grouped(steps, caseName)].flatMap(([heading, of]) =>
    of.map((r, i) => ({
      label: nameOf(r.engine),
      value: r.ms,
      text: `${r.ms.toFixed(0)} ms`,
      tone: toneOf(r.engine),
      ...(i === 0 && { heading }),
    })),
  )
  return barChart('A training step of the bench model, ms', bars)
}

function stepTable(rows: readonly Row[]): string[] {
  const steps = stepsOf(rows)
  if (steps.length === 0) return []
  const ownMs = (r: Row): number | undefined => steps.find((s) => s.case === r.case && s.engine === 'etude')?.ms
  const cells = (r: Row) => [
    caseName(r),
    nameOf(r.engine),
    number(r.ms),
    number(r.tokens_per_s),
    r.engine === 'etude' ? NONE : times(r.ms, ownMs(r)),
    r.dispatches ?? NONE,
    r.submits ?? NONE,
    megabytes(r.allocated_bytes),
    number(r.first_loss, 4),
  ]
  return [
    table(
      ['step', 'engine', 'ms', 'tokens/s', 'Etude is × as fast', 'dispatches', 'submits', 'allocated MB', 'first loss'],
      steps.map(cells),
      2,
    ),
    '',
  ]
}

/** Says that a peer computes something else, and where Etude stands beside the fastest that does not. */
function doubt({ own, fastest, right }: Standing): string {
  if (right === fastest) return ''
  const wrong = `, whose loss is wrong on this adapter: ${number(fastest.first_loss, 2)} instead of ${number(own.first_loss, 2)}`
  return right
    ? `${wrong}; ${times(right.ms, own.ms)} times as fast as ${nameOf(right.engine)} (${right.ms.toFixed(0)} ms), the fastest whose loss is right`
    : wrong
}

function standingText(standing: Standing): string {
  const { own, fastest } = standing
  const rate = own.gflop ? ` It is ${own.gflop.toFixed(1)} GFLOP, at ${number(own.gflops, 1)} GFLOP/s: ${number(own.percent_of_peak)} % of the peak.` : '' // prettier-ignore
  return `- ${caseName(own)}: ${own.ms.toFixed(0)} ms, ${times(fastest.ms, own.ms)} times as fast as ${nameOf(fastest.engine)} (${fastest.ms.toFixed(0)} ms)${doubt(standing)}.${rate}`
}

/** How fast the step could be at most: its arithmetic at the rates of plain products of the same run, and at the peak. */
function boundText(rows: readonly Row[], { own, fastest }: Standing): string[] {
  const [peak, gflop] = [peakOf(rows), own.gflop]
  if (peak === null || !gflop) return []
  const rates = rows.filter((r) => isPeerProduct(r) && r.engine === 'etude').map((r) => r.gflops ?? 0)
  const ms = (rate: number): number => (1000 * gflop) / rate
  const each = (f: (rate: number) => number, digits: number): string => range(rates.map(f), digits)
  const products =
    rates.length === 0
      ? []
      : [
          `the plain f32 products below reach ${each((r) => r, 1)} GFLOP/s on their own; at that rate the step’s arithmetic takes ${each(ms, 0)} ms, ${each((r) => fastest.ms / ms(r), 1)} times as fast as ${nameOf(fastest.engine)}, and the measured step takes ${each((r) => own.ms / ms(r), 1)} times that`,
        ]
  const atPeak = `at the peak of multiply-adds it takes ${ms(peak).toFixed(0)} ms, ${times(fastest.ms, ms(peak))} times as fast`
  const rest = rates.length === 0 ? '' : ' Softmax, norms, the loss and the optimizer come on top of it.'
  return [`- The LoRA step’s bound: ${[...products, atPeak].join('; ')}.${rest}`]
}

function stepText(rows: readonly Row[]): string[] {
  const text = Object.keys(CASES).flatMap((name) => {
    const standing = standingOf(rows, name)
    return standing ? [standingText(standing), ...(name === 'lora-step' ? boundText(rows, standing) : [])] : []
  })
  return text.length === 0 ? [] : [...text, '']
}

function forwardTable(rows: readonly Row[]): string[] {
  const passes = caseOf(rows, 'forward')
  if (passes.length === 0) return []
  const own = passes.find((r) => r.engine === 'etude')
  const cells = (r: Row) => [
    nameOf(r.engine),
    number(r.ms, 1),
    number(r.gflops, 1),
    number(r.percent_of_peak),
    r === own ? NONE : times(r.ms, own?.ms),
    number(r.first_loss, 4),
  ]
  return [
    'The forward pass alone, of the same model and batch; also by libraries that cannot train it:',
    '',
    table(['engine', 'ms', 'GFLOP/s', '% of peak', 'Etude is × as fast', 'loss'], passes.map(cells)),
    '',
  ]
}

export const stepsPart = ({ rows, picture }: Part): string[] => [
  ...picture('steps', 'Time of a training step by engine', stepChart(rows)),
  ...stepText(rows),
  ...stepTable(rows),
  ...forwardTable(rows),
]
