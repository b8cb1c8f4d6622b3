/** @file The goals of speed, memory and quality, and what the measurements say of each: the head of the results page. */
import type { Proof } from '../proof_page.ts'
import type { Row } from '../report.ts'
import { NONE, range, table } from './markdown.ts'
import { standingOf } from './peers.ts'
import { isLayer, nameOf, type Report, rowsOf, softwareOf, threadsOf } from './report.ts'

interface Reached {
  readonly text: string
  readonly met: boolean
}
interface Goal {
  readonly goal: string
  /** The adapter that the goal is set for. */
  readonly on: 'lavapipe' | 'SwiftShader'
  readonly find: (rows: readonly Row[]) => Reached | null
  readonly command: string
}

/** All products of layers in these formats are at least that fast. */
const products = (wanted: (dtype: string) => boolean, least: number) => (rows: readonly Row[]) => {
  const rates = rows
    .filter((r) => isLayer(r) && rowsOf(r) === 256 && r.engine === 'etude' && wanted(r.dtype ?? ''))
    .map((r) => r.gflops ?? 0)
  return rates.length === 0 ? null : { text: `${range(rates)} GFLOP/s`, met: Math.min(...rates) >= least }
}

const lora = (least: number) => (rows: readonly Row[]) => {
  const standing = standingOf(rows, 'lora-step')
  if (!standing) return null
  const { own, fastest, right } = standing
  const ratio = fastest.ms / own.ms
  const others =
    right === fastest
      ? ''
      : right
        ? `, whose loss is wrong; ${(right.ms / own.ms).toFixed(1)} times ${nameOf(right.engine)}, whose loss is right`
        : ', whose loss is wrong'
  return { text: `${ratio.toFixed(1)} times ${nameOf(fastest.engine)}${others}`, met: ratio >= least }
}

/** The slowest of Etude's rows of a case takes less than that many seconds. */
const under = (name: string, seconds: number, show: (s: number) => string) => (rows: readonly Row[]) => {
  const taken = rows.filter((r) => r.case === name && r.engine === 'etude').map((r) => r.ms / 1000)
  return taken.length === 0 ? null : { text: show(Math.max(...taken)), met: Math.max(...taken) < seconds }
}

const leanMemory = (model: string, most: number) => (rows: readonly Row[]) => {
  const row = rows.find((r) => r.case === 'memory' && r.model === model && r.policy === 'lean')
  const bytes = row?.planned_bytes
  return typeof bytes === 'number' ? { text: `${(bytes / 1e6).toFixed(0)} MB`, met: bytes <= most * 1e6 } : null
}

const isFourBit = (dtype: string): boolean => /^(q4_|nf4)/.test(dtype)
const MEMORY = { 'SmolLM2-135M': 230, 'Qwen2.5-0.5B': 600, 'Llama-3.2-1B': 1200 } as const
const bench = (only: string, more = ''): string => `\`npm run bench -- --only ${only}${more}\``

const GOALS: readonly Goal[] = [
  {
    goal: 'f32 products of layers at 256 rows: at least 25 GFLOP/s',
    on: 'lavapipe',
    find: products((d) => d === 'f32', 25),
    command: bench('matmul'),
  },
  { goal: 'the same with 4-bit weights: at least 35 GFLOP/s', on: 'lavapipe', find: products(isFourBit, 35), command: bench('matmul') },
  { goal: 'A LoRA step: at least 5 times as fast as the faster peer that trains', on: 'lavapipe', find: lora(5), command: bench('step') },
  {
    goal: 'The same on SwiftShader: at least 2.5 times',
    on: 'SwiftShader',
    find: lora(2.5),
    command: bench('step', ' --adapter swiftshader'),
  },
  {
    goal: 'SmolLM2-135M, a LoRA step of 1×128 tokens: under 4 s',
    on: 'lavapipe',
    find: under('smollm2-lora-1x128', 4, (s) => `${s.toFixed(1)} s`),
    command: bench('smollm2'),
  },
  {
    goal: 'The same of 1×4096 tokens, policy lean: under 15 minutes',
    on: 'lavapipe',
    find: under('smollm2-lora-1x4096', 900, (s) => `${(s / 60).toFixed(1)} minutes`),
    command: bench('smollm2-lora-1x4096'),
  },
  ...Object.entries(MEMORY).map(([model, most]): Goal => ({
    goal: `${model}, LoRA, 1×512 tokens, NF4, policy lean: at most ${most} MB`,
    on: 'lavapipe',
    find: leanMemory(model, most),
    command: bench('memory'),
  })),
]

/** Steps and most held-out loss of the proof run. */
const QUALITY = { steps: 120, most: 3.75 } as const

function quality(proof: Proof | null): Reached | null {
  const last = proof?.evals.find((e) => e.step === QUALITY.steps)
  return last ? { text: last.loss.toFixed(3), met: last.loss <= QUALITY.most } : null
}

/** One row of the table. */
const shown = (goal: string, reached: Reached | null, command: string): string[] => [
  goal,
  reached?.text ?? 'not measured',
  reached ? (reached.met ? 'yes' : '**no**') : NONE,
  command,
]

/** Goals are set for 2 CPU threads; the first report of that kind which has the figure counts. */
export function goalsSection(reports: readonly Report[], proof: Proof | null): string[] {
  const small = reports.filter((r) => threadsOf(r) === '2')
  const found = (g: Goal): Reached | null =>
    small
      .filter((r) => softwareOf(r) === g.on)
      .map((r) => g.find(r.rows))
      .find((x) => x !== null) ?? null
  const rows = [
    ...GOALS.map((g) => shown(g.goal, found(g), g.command)),
    shown(
      `SmolLM2-135M tuned in the studio: held-out loss at most ${QUALITY.most} after ${QUALITY.steps} steps`,
      quality(proof),
      '`npm run proof`',
    ),
  ]
  const machines = [...new Set(small.filter((r) => softwareOf(r)).map((r) => r.machine.split(',')[0]))]
  return [
    '## Goals',
    '',
    `Set for a software adapter on 2 CPU threads${machines.length > 0 ? ` (${machines.join('; ')})` : ''}; lavapipe where nothing else is said. \`npm run bench -- --all\` measures everything but the proof in one run.`,
    '',
    table(['goal', 'reached', 'met', 'measured by'], rows, 4),
    '',
  ]
}
