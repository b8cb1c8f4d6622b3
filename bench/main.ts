/** @file The bench page: puts one function on `window` that scripts/bench.mjs calls. All engines run here, in one page, one after another. */
import { openModel, type ModelFiles } from '../src/io/model_files.ts'
import { fromBlob } from '../src/io/sources.ts'
import { installCounters } from './counters.ts'
import { ENGINES } from './engines.ts'
import type { Say } from './report.ts'
import { type BenchOptions, type BenchResult, runSuite } from './suite.ts'

declare global {
  interface Window {
    runBench: (options: BenchOptions) => Promise<BenchResult>
    /** Set by the driver: receives lines of progress. */
    benchSay?: Say
  }
}

installCounters()

/** From the server that serves this page, which has it where it lies beside the checkout. */
async function smollm2(): Promise<ModelFiles | null> {
  const answer = await fetch('/bench-model/smollm2.gguf')
  if (!answer.ok || answer.headers.get('content-type') !== 'application/octet-stream') return null
  const name = answer.headers.get('x-file-name') ?? 'smollm2.gguf'
  return openModel(new Map([[name, fromBlob(await answer.blob(), name)]]), name)
}

window.runBench = (options) =>
  runSuite(options, {
    engines: Object.keys(ENGINES),
    say: (line) => (window.benchSay ? window.benchSay(line) : console.log(line)),
    smollm2,
  })
