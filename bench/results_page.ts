/** @file docs/results.md and its charts, made from the files of bench/results: figures are never written by hand. Pure: files in, files out. */
import { barChart, lineChart, type Bar } from './charts.ts'
import { proofSection, type Proof } from './proof_page.ts'
import type { Row } from './report.ts'

/** What `npm run bench -- --json` writes. */
export interface Report {
  readonly machine: string
  readonly adapter: string
  readonly host?: string
  readonly rows: readonly Row[]
}
export interface Results {
  /** Name of the file without its ending → its content. */
  readonly reports: ReadonlyMap<string, Report>
  readonly proof: Proof | null
}
/** Path under docs/ → content. */
export type Page = ReadonlyMap<string, string>

const NAMES: Readonly<Record<string, string>> = {
  'etude-tile': 'Etude, tile',
  'etude-matrix': 'Etude, subgroup matrices',
  etude: 'Etude',
  tfjs: 'TensorFlow.js',
  naive: 'naive',
  torch: 'PyTorch + PEFT',
}
const nameOf = (engine: string): string => NAMES[engine] ?? engine
const TONES: Readonly<Record<string, number>> = { etude: 0, 'etude-tile': 1, 'etude-matrix': 3, naive: 4 }
const toneOf = (engine: string): number => TONES[engine] ?? (engine === 'tfjs' ? 2 : 3)
const LAYOUTS = { nt: 'forward, y = x Wᵀ', nn: 'gradient of the input', tn: 'gradient of the weight' } as const
const megabytes = (bytes: number | null | undefined): string => (typeof bytes === 'number' ? (bytes / 1e6).toFixed(0) : '')

const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`
/** A Markdown table; the columns after the first are numbers, and set to the right. */
export const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [line(head), line(head.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n')

/** Peak of the report, where it was measured. */
const peakOf = (rows: readonly Row[]): number | null => rows.find((r) => r.case === 'peak-fma')?.gflops ?? null

const isLayer = (r: Row): boolean => r.m === 256 || r.layout === 'tn'

/** Products of layers at 256 rows by format, those in f32 on the way from naive to best. */
const layerChart = (rows: readonly Row[]): string | null =>
  productChart(
    rows,
    (r) => isLayer(r),
    'Products of SmolLM2’s layers, GFLOP/s and share of the peak',
    (r) => `${nameOf(r.engine)}, ${r.dtype}`,
  )
/** Products that every engine can do. */
const peerChart = (rows: readonly Row[]): string | null =>
  productChart(
    rows,
    (r) => !isLayer(r),
    'Products of f32 matrices by engine, GFLOP/s and share of the peak',
    (r) => nameOf(r.engine),
  )

function productChart(rows: readonly Row[], wanted: (r: Row) => boolean, title: string, label: (r: Row) => string): string | null {
  const products = rows.filter((r) => r.case === 'matmul' && wanted(r))
  const peak = peakOf(rows)
  if (products.length === 0 || peak === null) return null
  const bars = headed(products, (r) => `${r.m}×${r.n}, sums of ${r.k} (${LAYOUTS[r.layout!]})`).map(({ row: r, heading }): Bar => ({
    label: label(r),
    value: r.gflops!,
    text: `${r.gflops!.toFixed(1)} (${r.percent_of_peak!.toFixed(0)} %)`,
    tone: toneOf(r.engine),
    ...heading,
  }))
  return barChart(title, bars, { value: peak, label: `FMA peak ${peak.toFixed(0)}` })
}

/** Rows with a heading where one begins. */
function headed(rows: readonly Row[], name: (r: Row) => string): { readonly row: Row; readonly heading: { heading?: string } }[] {
  return rows.map((row, i) => ({ row, heading: i > 0 && name(rows[i - 1]) === name(row) ? {} : { heading: name(row) } }))
}

function stepChart(rows: readonly Row[]): string | null {
  const steps = rows.filter((r) => /^(lora|full)-step$/.test(r.case))
  if (steps.length === 0) return null
  const bars = headed(steps, (r) => (r.case === 'lora-step' ? 'LoRA, r = 8' : 'every weight')).map(({ row: r, heading }): Bar => ({
    label: nameOf(r.engine),
    value: r.ms,
    text: `${r.ms.toFixed(0)} ms`,
    tone: toneOf(r.engine),
    ...heading,
  }))
  return barChart('A training step of the bench model, ms', bars)
}

/** Says that a peer computes something else: the same weights and batch have one loss. */
const doubt = ({ first_loss: own = NaN }: Row, { first_loss: peer = NaN }: Row): string =>
  Math.abs(own - peer) > 0.01 ? `, and its loss is wrong on this adapter: ${peer.toFixed(2)} instead of ${own.toFixed(2)}` : ''

/** Where Etude stands among the peers of the same run. */
function stepText(rows: readonly Row[]): string[] {
  const text: string[] = []
  for (const name of ['lora-step', 'full-step']) {
    const own = rows.find((r) => r.case === name && r.engine === 'etude')
    const peer = rows.filter((r) => r.case === name && r.engine !== 'etude').sort((a, b) => a.ms - b.ms)[0]
    if (!own || !peer) continue
    const what = name === 'lora-step' ? 'LoRA' : 'every weight'
    const rate = own.gflop
      ? ` It is ${own.gflop.toFixed(1)} GFLOP, at ${own.gflops!.toFixed(1)} GFLOP/s: ${own.percent_of_peak!.toFixed(0)} % of the peak.`
      : ''
    text.push(
      `- ${what}: ${own.ms.toFixed(0)} ms, ${(peer.ms / own.ms).toFixed(1)} times as fast as ${nameOf(peer.engine)} (${peer.ms.toFixed(0)} ms${doubt(own, peer)}).${rate}`,
    )
  }
  return text
}

function sweepChart(rows: readonly Row[], name: string, axis: string, of: (r: Row) => number): string | null {
  const points = rows.filter((r) => r.case === name).map((r) => [of(r), r.ms] as const)
  if (points.length < 2) return null
  return lineChart(
    `A LoRA step of the bench model by ${axis}`,
    [{ name: 'Etude', points, tone: 0 }],
    { label: axis, log: true },
    { label: 'ms', log: true },
  )
}

function memoryChart(rows: readonly Row[]): string | null {
  const planned = rows.filter((r) => r.case === 'memory')
  if (planned.length === 0) return null
  const bars = headed(planned, (r) => `${r.model}, ${r.batch}×${r.seq} tokens, base ${r.base}`).map(({ row: r, heading }): Bar => ({
    label: r.policy!,
    value: r.planned_bytes!,
    text: `${megabytes(r.planned_bytes)} MB`,
    tone: 0,
    ...heading,
  }))
  return barChart('GPU memory of a LoRA run (r = 8 on all linear layers) by policy', bars)
}

function smollm2Table(rows: readonly Row[]): string | null {
  const steps = rows.filter((r) => r.case.startsWith('smollm2-lora-'))
  if (steps.length === 0) return null
  const head = [
    'rows × tokens',
    'base',
    'policy',
    'ms',
    'tokens/s',
    'GFLOP',
    'GFLOP/s',
    '% of peak',
    'dispatches',
    'submits',
    'planned MB',
    'allocated MB',
  ]
  return table(
    head,
    steps.map((r) => [
      `${r.batch}×${r.seq}${r.engine === 'etude' ? '' : `, ${nameOf(r.engine)}`}`,
      r.base ?? '',
      r.policy ?? '',
      r.ms.toFixed(0),
      r.tokens_per_s?.toFixed(0) ?? '',
      r.gflop?.toFixed(0) ?? '',
      r.gflops?.toFixed(1) ?? '',
      r.percent_of_peak?.toFixed(0) ?? '',
      r.dispatches ?? '',
      r.submits ?? '',
      megabytes(r.planned_bytes),
      megabytes(r.allocated_bytes),
    ]),
  )
}

/** Reading a prompt is held against the adapter's arithmetic, a new token against its memory. */
function generationText(rows: readonly Row[]): string | null {
  const [prefill, decode] = ['smollm2-prefill', 'smollm2-decode'].map((name) => rows.find((r) => r.case === name && r.engine === 'etude'))
  const packed = rows.find((r) => r.case === 'smollm2-decode' && r.engine === 'etude-dot')
  const floor = rows.find((r) => r.case === 'smollm2-decode-floor')
  if (!prefill || !decode) return null
  return [
    `- A prompt of ${prefill.seq} tokens: ${prefill.tokens_per_s!.toFixed(0)} tokens/s, ${prefill.gflops!.toFixed(1)} GFLOP/s (${prefill.percent_of_peak!.toFixed(0)} % of the peak).`,
    `- A new token: ${decode.tokens_per_s!.toFixed(1)} a second, ${decode.dispatches} dispatches in ${decode.submits === 1 ? 'one submit' : `${decode.submits} submits`}; its weights are read at ${decode.gb_per_s!.toFixed(1)} GB/s (${decode.percent_of_peak!.toFixed(0)} % of a copy's rate).`,
    ...(floor
      ? [
          `- Of that, dispatches take ${floor.ms.toFixed(1)} of ${decode.ms.toFixed(1)} ms: a model of as many layers with next to no weights takes that.`,
        ]
      : []),
    ...(floor ? decodeByBase(rows, floor.ms) : []),
    ...(packed ? [`- A new token with packed products of whole numbers: ${packed.tokens_per_s!.toFixed(1)} a second.`] : []),
  ].join('\n')
}

/** What is above the floor, by how many bytes of weights are read: about the same a megabyte where reading them is the limit. */
function decodeByBase(rows: readonly Row[], floor: number): string[] {
  const bases = rows.filter((r) => r.case === 'smollm2-decode' && r.engine === 'etude')
  if (bases.length < 2) return []
  const each = bases.map((r) => {
    const megabytesRead = r.gb_per_s! * r.ms
    return `${r.base} ${r.ms.toFixed(0)} ms for ${megabytesRead.toFixed(0)} MB (${((1000 * (r.ms - floor)) / megabytesRead).toFixed(0)} µs a MB beyond dispatches)`
  })
  return [`- By what the weights are stored as: ${each.join(', ')}.`]
}

function memoryTable(rows: readonly Row[]): string | null {
  const planned = rows.filter((r) => r.case === 'memory')
  if (planned.length === 0) return null
  const cells = (r: Row) => [`${r.model}, ${r.policy}`, megabytes(r.planned_bytes), megabytes(r.allocated_bytes), r.dispatches ?? '']
  return table(['model, policy', 'planned MB', 'allocated MB', 'dispatches a step'], planned.map(cells))
}

/** The parts of one report: what it ran on, then what it measured. */
function section(slug: string, { machine, adapter, host, rows }: Report, files: Map<string, string>): string[] {
  const picture = (name: string, alt: string, content: string | null): string[] => {
    if (content === null) return []
    files.set(`results/${slug}-${name}.svg`, content)
    return [`![${alt}](results/${slug}-${name}.svg)`, '']
  }
  const peak = peakOf(rows)
  const copy = rows.find((r) => r.case === 'peak-copy')?.gb_per_s
  const adamw = rows.find((r) => r.case === 'adamw')
  const measured =
    peak === null
      ? []
      : [`Measured in the same run: ${peak.toFixed(1)} GFLOP/s of f32 multiply-adds, ${copy?.toFixed(1) ?? '?'} GB/s of a copy.`]
  const optimizer = adamw ? [`The optimizer (norm, clip, AdamW) moves ${adamw.gb_per_s!.toFixed(1)} GB/s.`] : []
  const part = (title: string, body: readonly string[]): string[] => (body.length === 0 ? [] : [`### ${title}`, '', ...body])
  const text = (content: string | null): string[] => (content === null ? [] : [content, ''])
  const weights = rows.find((r) => r.case.startsWith('smollm2-'))?.weights
  return [
    `## ${adapter}`,
    '',
    `${machine}${host ? `; ${host}` : ''}. ${[...measured, ...optimizer].join(' ')}`,
    '',
    ...part('Beside other libraries', [
      ...picture('steps', 'Time of a training step by engine', stepChart(rows)),
      ...text(stepText(rows).join('\n') || null),
    ]),
    ...part(
      `SmolLM2-135M, LoRA r = 8 on all linear layers${weights === 'random' ? ' (random weights of its shapes)' : ''}`,
      text(smollm2Table(rows)),
    ),
    ...part('SmolLM2-135M, generation with its 4-bit weights', text(generationText(rows))),
    ...part('Matmul', [
      ...picture('roofline', 'Matmul rates by weight format', layerChart(rows)),
      ...picture('matmul', 'Matmul rates by engine', peerChart(rows)),
    ]),
    ...part('Memory', [...picture('memory', 'Planned memory by policy', memoryChart(rows)), ...text(memoryTable(rows))]),
    ...part('Cost', [
      ...picture(
        'sequence',
        'Step time by tokens of a row',
        sweepChart(rows, 'sweep-sequence', 'tokens of a row', (r) => r.seq!),
      ),
      ...picture(
        'batch',
        'Step time by rows',
        sweepChart(rows, 'sweep-batch', 'rows of 128 tokens', (r) => r.batch!),
      ),
      ...picture(
        'rank',
        'Step time by rank',
        sweepChart(rows, 'sweep-rank', 'rank', (r) => r.rank!),
      ),
    ]),
  ]
}

export function resultsPage({ reports, proof }: Results): Page {
  const files = new Map<string, string>()
  const body = [
    '# Results',
    '',
    'Made from `bench/results/*.json` by `npm run docs`; `npm run bench -- --json <file>` measures, `npm run proof` trains. A step’s GFLOP are counted from its shapes',
    '(`bench/flops.ts`); what a policy computes twice counts once. The bench model: 4 Llama blocks of width 256, batch 4 × 128 tokens, the same weights and batches for all.',
    '',
    ...(proof ? proofSection(proof, files) : []),
    ...[...reports].flatMap(([slug, report]) => section(slug, report, files)),
  ]
  files.set('results.md', `${body.join('\n').trimEnd()}\n`)
  return files
}
