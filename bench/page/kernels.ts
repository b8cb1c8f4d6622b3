/** @file The other hot kernels from naive to best: attention by arithmetic; norms, the loss and the optimizer by bytes. */
import { type Bar, barChart } from '../charts.ts'
import type { Row } from '../report.ts'
import { grouped, number, table, times } from './markdown.ts'
import { caseOf, copyOf, nameOf, type Part, peakOf, toneOf } from './report.ts'

const PASSES: Readonly<Record<string, string>> = {
  forward: 'forward',
  backward: 'backward',
  dq: 'gradient by q',
  dkv: 'gradient by k and v',
}
const CASES: Readonly<Record<string, string>> = {
  attention: 'attention',
  norm: 'RMS norm',
  'cross-entropy': 'cross-entropy',
  adamw: 'optimizer step (norm, clip, AdamW)',
  'adamw update': 'AdamW alone',
}

/** The kernel, its pass and its size, as far as a row names them. */
function workOf(r: Row): string {
  const sizes = [r.m, r.n].filter((x) => x !== undefined).map((x) => x.toLocaleString('en'))
  const tokens = r.seq === undefined ? '' : `${r.batch !== undefined && r.batch > 1 ? `${r.batch}×` : ''}${r.seq} tokens`
  const size = tokens || `${sizes.join(' × ')}${r.case === 'adamw' && r.n !== undefined ? ' parameters' : ''}`
  const kernel = CASES[`${r.case} ${r.pass}`] ?? [CASES[r.case], r.pass && PASSES[r.pass]].filter(Boolean).join(', ')
  return [kernel, size].filter(Boolean).join(', ')
}

type Rate = 'gflops' | 'gb_per_s'

function ladderChart(title: string, rows: readonly Row[], rate: Rate, mark: { value: number; label: string } | null): string {
  const bars = [...grouped(rows, workOf)].flatMap(([heading, of]) =>
    of.map((r, i): Bar => ({
      label: nameOf(r.engine),
      value: r[rate] ?? 0,
      text: `${number(r[rate], 1)} (${number(r.percent_of_peak)} %)`,
      tone: toneOf(r.engine),
      ...(i === 0 && { heading }),
    })),
  )
  return barChart(title, bars, mark)
}

/** One line a kernel and size; a column for each rung that any of them has. */
function ladderTable(rows: readonly Row[], rate: Rate, against: string): string {
  const engines = [...grouped(rows, (r) => r.engine).keys()]
  const rungs = ['naive', 'etude-tile', 'etude-matrix', 'etude'].filter((e) => engines.includes(e))
  const lines = [...grouped(rows, workOf)].map(([name, of]) => {
    const [naive, best] = ['naive', 'etude'].map((engine) => of.find((r) => r.engine === engine))
    return [
      name,
      ...rungs.map((engine) => number(of.find((r) => r.engine === engine)?.[rate], 1)),
      number(best?.percent_of_peak),
      times(naive?.ms, best?.ms),
    ]
  })
  return table(['kernel', ...rungs.map(nameOf), `% of ${against}`, '× naive'], lines)
}

const headsText = ({ heads, kv_heads, head_dim }: Row): string =>
  heads === undefined ? '' : `, ${heads} heads of q on ${kv_heads} of k and v, each ${head_dim} wide`

export function attentionPart({ rows, picture }: Part): string[] {
  const passes = caseOf(rows, 'attention')
  const peak = peakOf(rows)
  if (passes.length === 0) return []
  const mark = peak === null ? null : { value: peak, label: `FMA peak ${peak.toFixed(0)}` }
  return [
    ...picture('attention', 'Attention rates by kernel', ladderChart('Attention, GFLOP/s and share of the peak', passes, 'gflops', mark)),
    `GFLOP/s${headsText(passes[0])}:`,
    '',
    ladderTable(passes, 'gflops', 'peak'),
    '',
  ]
}

export function bytesPart({ rows, picture }: Part): string[] {
  const kernels = ['norm', 'cross-entropy', 'adamw'].flatMap((name) => caseOf(rows, name))
  const copy = copyOf(rows)
  if (kernels.length === 0) return []
  const mark = copy === null ? null : { value: copy, label: `copy ${copy.toFixed(1)}` }
  const passed = kernels.some((r) => (r.percent_of_peak ?? 0) > 100)
  return [
    ...picture(
      'bytes',
      'Rates of kernels that move bytes',
      ladderChart('Kernels that move bytes, GB/s and share of a copy', kernels, 'gb_per_s', mark),
    ),
    'GB/s; bytes are those that a kernel must read and write. Beside the most that was copied in the same run:',
    '',
    ladderTable(kernels, 'gb_per_s', 'a copy'),
    '',
    ...(passed ? ['A kernel that reads more than it writes, or whose data stay in a cache, can pass 100 %.', ''] : []),
  ]
}
