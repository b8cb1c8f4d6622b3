/**
 * @file Measures a training step of every engine on the bench model: same weights, same batches, rounds in which the engines take turns. Engines whose
 * losses part are reported, so that nothing is timed that does not do the same work.
 */
import { ENGINES } from './engines.ts'
import { benchBundle } from './etude.ts'
import { stepFlops } from './flops.ts'
import { peakBytes, setOwner, takeCounts, type Counts } from './counters.ts'
import { makeBatch, makeWeights, BATCH, LORA, SEQ, type Method, type Trainer } from './model.ts'
import type { Peak } from './peak.ts'
import { median, shareOf, type Row, type Say } from './report.ts'

/** First losses come from the same weights and differ by rounding alone (PyTorch's own f32 noise on this model is about 1e-6). */
const FIRST_LOSS_TOLERANCE = 1e-3
/** Steps before the clock: pipelines are compiled, buffer pools filled. */
const WARM_UP = 3

interface Runner {
  readonly engine: string
  readonly owner: string
  readonly trainer: Trainer
  readonly losses: number[]
  readonly ms: number[]
  counts: Counts
}

async function stepOf(runner: Runner): Promise<number> {
  const batch = makeBatch(1000 + runner.losses.length)
  setOwner(runner.owner)
  takeCounts()
  const began = performance.now()
  const loss = await runner.trainer.step(batch)
  const ms = performance.now() - began
  runner.counts = takeCounts()
  runner.losses.push(loss)
  return ms
}

async function start(engine: string, method: Method, say: Say): Promise<Runner | null> {
  const { create } = await ENGINES[engine]()
  if (!create) return null
  const owner = `${engine} ${method}`
  setOwner(owner)
  const began = performance.now()
  const runner: Runner = {
    engine,
    owner,
    trainer: await create(makeWeights(), method),
    losses: [],
    ms: [],
    counts: { dispatches: 0, submits: 0 },
  }
  for (let i = 0; i < WARM_UP; i++) await stepOf(runner)
  say(`${method} step, ${engine}: ready after ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return runner
}

/** Those that can train this; one that fails is a problem of its own and leaves the others to be measured. */
async function startAll(method: Method, engines: readonly string[], say: Say, problems: string[]): Promise<Runner[]> {
  const runners: Runner[] = []
  for (const engine of engines) {
    try {
      const runner = await start(engine, method, say)
      if (runner) runners.push(runner)
    } catch (error) {
      problems.push(`${method} step, ${engine}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return runners
}

/** Largest difference of any engine's losses to the first engine's: of the first step, and of all steps. */
function lossDifferences(runners: readonly Runner[]): { first: number; all: number } {
  const differences = runners.flatMap((r) => r.losses.map((loss, i) => Math.abs(loss - runners[0].losses[i])))
  const worst = (values: number[]) => (values.some(Number.isNaN) ? NaN : Math.max(...values))
  return { first: worst(runners.map((r) => Math.abs(r.losses[0] - runners[0].losses[0]))), all: worst(differences) }
}

/** The arithmetic of the bench model's LoRA step, in 10⁹ operations. */
async function loraGflop(): Promise<number> {
  return stepFlops(await benchBundle(makeWeights()), { batch: BATCH, seq: SEQ, labelled: makeBatch(0).tokens, rank: LORA.r }) / 1e9
}

/** The step cases of one method, a row an engine; `problems` gains a line for each disagreement. */
export async function benchSteps(
  method: Method,
  engines: readonly string[],
  rounds: number,
  peak: Peak,
  say: Say,
  problems: string[],
): Promise<Row[]> {
  const runners = await startAll(method, engines, say, problems)
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < runners.length; i++) {
      const runner = runners[(round + i) % runners.length]
      runner.ms.push(await stepOf(runner))
    }
    say(`${method} step, round ${round + 1}: ${runners.map((r) => `${r.engine} ${r.ms.at(-1)!.toFixed(0)} ms`).join(', ')}`)
  }
  if (runners.length === 0) return []
  const { first, all } = lossDifferences(runners)
  say(`${method} step: losses of all engines differ by at most ${first.toExponential(1)} in the first step, ${all.toExponential(1)} in any`)
  if (!(first <= FIRST_LOSS_TOLERANCE))
    problems.push(`${method} step: first losses differ by ${first}: ${runners.map((r) => `${r.engine} ${r.losses[0]}`).join(', ')}`)
  const gflop = method === 'lora' ? await loraGflop() : null
  const rows = runners.map((r): Row => ({
    case: `${method}-step`,
    engine: r.engine,
    ms: median(r.ms),
    ...(gflop !== null && shareOf(gflop, median(r.ms), peak)),
    dispatches: r.counts.dispatches,
    submits: r.counts.submits,
    planned_bytes: r.trainer.plannedBytes ?? null,
    allocated_bytes: peakBytes(r.owner),
    tokens_per_s: (BATCH * SEQ * 1000) / median(r.ms),
    first_loss: r.losses[0],
    last_loss: r.losses.at(-1)!,
  }))
  for (const runner of runners) runner.trainer.dispose()
  return rows
}
