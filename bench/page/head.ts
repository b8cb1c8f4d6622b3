/** @file The words at the head of the results page and of each report on it. */
import type { Row } from '../report.ts'
import { caseOf, copyOf, nameOf, peakOf, type Report, softwareOf, threadsOf } from './report.ts'
import { grouped, range } from './markdown.ts'

export const INTRO: readonly string[] = [
  '# Results',
  '',
  'How fast Etude trains, how much memory that takes, and how near its results are to PyTorch’s. All figures come from `bench/results/*.json`: `npm run bench -- --all --json <file>`',
  'measures, `npm run proof` trains, `npm run docs` writes this page.',
  '',
]

export const GLOSSARY: readonly string[] = [
  '## Words',
  '',
  '- **bench model**: 4 Llama blocks of width 256, a batch of 4 × 128 tokens; the same weights and batches for every engine.',
  '- **peak**: the most f32 multiply-adds a second that a loop in registers reaches on the adapter, in the same run; a multiply-add is two operations. “% of peak” is against it.',
  '- **copy**: the most bytes a second that anything moves through memory in the same run, those read and those written both counted.',
  '- **GFLOP**: 10⁹ operations, counted from the shapes of a step (`bench/flops.ts`); what a policy computes twice counts once.',
  '- **base**: how the frozen weights lie in memory. `keep`: the file’s own bits (Q4_1 for SmolLM2). `nf4`: 4 bits, made while loading. `f16`, `f32`: floats.',
  '- **policy**: what of the forward pass is kept for the backward pass. `fast` keeps all; `recompute` makes norms and activations anew; `checkpoint` keeps the input of each',
  '  block and runs the block again; `lean` is the smallest plan of that kind, with a few rows of logits at a time and one to four blocks. Each takes less memory than the one before it (or about as much, where something else is largest) and more time.',
  '- **planned, allocated**: bytes by the plan that is made before a run, and the most that was allocated in it.',
  '- **dispatches, submits**: calls of GPU kernels in a step, and the batches in which they are handed to the GPU.',
  '',
]

/** `lavapipe` on 2 threads is not the GPU that a reader expects: the heading says so. */
export function headingOf(report: Report): string {
  const software = softwareOf(report)
  if (software === null) return `## ${report.adapter}`
  const threads = threadsOf(report)
  return `## Software adapter ${software}${threads === null ? '' : ` (${threads} CPU threads)`}`
}

const PARTS: readonly (readonly [name: string, of: (r: Row) => boolean])[] = [
  ['training steps', (r) => /^(lora|full)-step$/.test(r.case)],
  ['the forward pass', (r) => r.case === 'forward'],
  ['kernels', (r) => ['matmul', 'attention', 'adamw', 'norm', 'cross-entropy'].includes(r.case)],
  ['steps of SmolLM2', (r) => r.case.startsWith('smollm2-lora-') && r.engine === 'etude'],
  ['generation', (r) => /^smollm2-(prefill|decode)/.test(r.case)],
  ['sweeps', (r) => r.case.startsWith('sweep-')],
]

/** Of how many measurements the times are medians. */
function roundsText({ rounds, rows }: Report): string {
  const said = PARTS.flatMap(([name, of]) => {
    const each = rows.filter(of).flatMap((r) => (r.rounds === undefined ? [] : [r.rounds]))
    return each.length === 0 ? [] : [[name, range(each, 0)] as const]
  })
  if (said.length > 0) {
    const byCount = [...grouped(said, ([, count]) => count)].map(([count, of]) => `${count} (${of.map(([name]) => name).join(', ')})`)
    return ` Times are medians; rounds: ${byCount.join('; ')}.`
  }
  return rounds === undefined ? '' : ` Times are medians of up to ${rounds} rounds.`
}

/** When, what and with which peers it was measured, as far as the file says. */
export function measuredText({ date, commit, versions }: Pick<Report, 'date' | 'commit' | 'versions'>): string {
  if (!date && !commit) return ''
  const when = `Measured${date ? ` on ${date}` : ''}${commit ? ` at commit ${commit}` : ''}`
  const beside = Object.entries(versions ?? {}).map(([name, version]) => `${nameOf(name)} ${version}`)
  return ` ${when}${beside.length > 0 ? `, with ${beside.join(', ')}` : ''}.`
}

/** What the kernels of a GPU were tuned to, and what the self-check switched off. */
function tuningText(rows: readonly Row[]): string[] {
  const tuning = caseOf(rows, 'tuning')[0]
  if (!tuning) return []
  const choices = Object.entries(tuning.choices ?? {}).map(([name, choice]) => `${name} by ${choice}`)
  const tuned = choices.length > 0 ? [`Tuned in ${(tuning.ms / 1000).toFixed(1)} s: ${choices.join('; ')}.`] : []
  return [...tuned, ...(tuning.notes ?? [])]
}

/** What a report ran on, and when. */
export function headOf(report: Report): string[] {
  const { machine, adapter, host, rows, problems = [] } = report
  const [peak, copy, software] = [peakOf(rows), copyOf(rows), softwareOf(report)]
  const rates =
    peak === null ? '' : ` In the same run: ${peak.toFixed(1)} GFLOP/s of f32 multiply-adds, ${copy?.toFixed(1) ?? '?'} GB/s of a copy.`
  return [
    headingOf(report),
    '',
    `${machine}; ${adapter}${host ? `; ${host}` : ''}.${rates}${measuredText(report)}${roundsText(report)}`,
    ...tuningText(rows),
    ...(software ? ['Shaders run on the CPU here, and what is called GPU memory is ordinary memory: no figure below is a GPU’s.'] : []),
    '',
    ...(problems.length > 0 ? ['What the bench found wrong while it ran:', '', ...problems.map((p) => `- ${p}`), ''] : []),
  ]
}
