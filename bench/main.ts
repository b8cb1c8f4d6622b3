/** @file The bench page: puts one function on `window` that scripts/bench.mjs calls. All engines run here, in one page, one after another. */
import { installCounters } from './counters.ts'
import { ENGINES } from './engines.ts'
import { benchMatmuls } from './matmuls.ts'
import { type Row, type Say } from './report.ts'
import { benchSteps } from './steps.ts'

export interface BenchOptions {
  readonly only?: 'step' | 'matmul'
  /** At least 5. */
  readonly rounds: number
  /** Engine ids; all of them when absent. */
  readonly engines?: readonly string[]
}

export interface BenchResult {
  readonly rows: readonly Row[]
  /** Disagreements between engines and engines that failed, a line each. */
  readonly problems: readonly string[]
  readonly adapter: string
}

declare global {
  interface Window {
    runBench: (options: BenchOptions) => Promise<BenchResult>
    /** Set by the driver: receives lines of progress. */
    benchSay?: Say
  }
}

installCounters()

async function describeAdapter(): Promise<string> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) throw new Error('this browser has no WebGPU adapter')
  const { vendor, architecture, device, description } = adapter.info
  return [vendor, architecture, device, description].filter(Boolean).join(' ')
}

window.runBench = async ({ only, rounds, engines = Object.keys(ENGINES) }) => {
  const say: Say = (line) => (window.benchSay ? window.benchSay(line) : console.log(line))
  const adapter = await describeAdapter()
  const rows: Row[] = []
  const problems: string[] = []
  if (only !== 'matmul') {
    for (const method of ['lora', 'full'] as const) rows.push(...(await benchSteps(method, engines, rounds, say, problems)))
  }
  if (only !== 'step')
    rows.push(
      ...(await benchMatmuls(
        engines.filter((e) => e !== 'naive'),
        rounds,
        say,
        problems,
      )),
    )
  return { rows, problems, adapter }
}
