/** @file Everything the bench measures, in one run: the same in the page and in Node, which differ in the engines and in where model files come from. */
import { waitFor } from '../src/gpu/wait.ts'
import type { ModelFiles } from '../src/io/model_files.ts'
import { benchForward } from './forward.ts'
import { KERNEL_PARTS } from './kernels.ts'
import { benchMatmuls } from './matmuls.ts'
import { benchMemory } from './memory.ts'
import { measurePeak } from './peak.ts'
import { preparedGpu } from './prepared.ts'
import type { Row, Say } from './report.ts'
import { benchSmolLM2, GENERATE, LONG_CASE, SMOLLM2_CASES } from './smollm2.ts'
import { benchSteps } from './steps.ts'
import { benchSweeps } from './sweep.ts'

/** What --only may name: a part, or one of SmolLM2's cases. */
export const PARTS = [
  'step',
  'forward',
  ...Object.keys(KERNEL_PARTS),
  'smollm2',
  'sweep',
  'memory',
  GENERATE,
  ...SMOLLM2_CASES,
  LONG_CASE,
] as const

export interface BenchOptions {
  /** Parts of PARTS; all but the case of 4096 tokens when absent. */
  readonly only?: readonly string[]
  /** At least 5. */
  readonly rounds: number
  /** Engine ids; all of the host's when absent. */
  readonly engines?: readonly string[]
}

export interface BenchResult {
  readonly rows: readonly Row[]
  /** Disagreements between engines and engines that failed, a line each. */
  readonly problems: readonly string[]
  readonly adapter: string
}

/** Where the bench runs. */
export interface Host {
  readonly engines: readonly string[]
  readonly say: Say
  /** SmolLM2-135M's files; null where they are not at hand. */
  readonly smollm2: () => Promise<ModelFiles | null>
}

async function describeAdapter(): Promise<string> {
  const adapter = await waitFor(navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }))
  if (!adapter) throw new Error('there is no WebGPU adapter')
  const { vendor, architecture, device, description } = adapter.info
  return [vendor, architecture, device, description].filter(Boolean).join(' ')
}

export async function runSuite({ only, rounds, engines }: BenchOptions, host: Host): Promise<BenchResult> {
  const { say } = host
  const named = engines ?? host.engines
  const wants = (part: string): boolean => !only || only.includes(part)
  const adapter = await describeAdapter()
  const problems: string[] = []
  const peak = await measurePeak()
  say(`peak: ${peak.gflops.toFixed(1)} GFLOP/s f32, ${peak.gbPerSecond.toFixed(1)} GB/s`)
  const rows: Row[] = [...peak.rows]
  /** Rows of engines that take turns: as many rounds as are asked for. */
  const add = (measured: readonly Row[]) => rows.push(...measured.map((row) => ({ rounds, ...row })))
  const o = { rounds, peak, say, problems }
  if (wants('step')) for (const method of ['lora', 'full'] as const) add(await benchSteps(method, named, rounds, peak, say, problems))
  if (wants('forward')) add(await benchForward(named, rows, o))
  if (wants('matmul')) add(await benchMatmuls(named, rounds, peak, say, problems))
  if (!named.includes('etude')) return { rows, problems, adapter }
  const { gpu, row } = await preparedGpu()
  if (row) rows.push(row)
  try {
    for (const [part, bench] of Object.entries(KERNEL_PARTS)) if (wants(part)) rows.push(...(await bench(gpu, o)))
    if (wants('sweep')) rows.push(...(await benchSweeps(gpu, o)))
    if (wants('memory')) rows.push(...(await benchMemory(gpu, say)))
    const cases = [...(wants(GENERATE) ? [GENERATE] : []), ...(wants('smollm2') ? SMOLLM2_CASES : [])]
    const wanted = [...cases, ...(only ?? []).filter((c) => /^smollm2-/.test(c))]
    if (wanted.length > 0) rows.push(...(await benchSmolLM2(gpu, wanted, host.smollm2, o)))
  } finally {
    gpu.destroy()
  }
  return { rows, problems, adapter }
}
