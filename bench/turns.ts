/**
 * @file Engines that do the same work on the same batches, in rounds in which they take turns. Engines whose losses part are reported, so that nothing is
 * timed that does not do the same work.
 */
import { peakBytes, setOwner, takeCounts, type Counts } from './counters.ts'
import { type Batch, makeBatch } from './model.ts'
import { median, type Row, type Say } from './report.ts'

/** First losses come from the same weights and differ by rounding alone (PyTorch's own f32 noise on this model is about 1e-6). */
export const FIRST_LOSS_TOLERANCE = 1e-3
/** Turns before the clock: pipelines are compiled, buffer pools filled. */
const WARM_UP = 3

/** What one engine does. */
export interface Work {
  /** Resolves to the batch's mean loss once it was read back. */
  readonly run: (batch: Batch) => Promise<number>
  /** Bytes an engine plans before it allocates, where it does plan. */
  readonly plannedBytes?: number
  readonly dispose: () => void
}

export interface Runner {
  readonly engine: string
  /** Of every turn, the warm-up's too. */
  readonly losses: number[]
  /** Of every turn on the clock. */
  readonly ms: number[]
  readonly work: Work
  readonly owner: string
  /** Of the latest turn. */
  counts: Counts
}

export interface Turns {
  /** As in messages. */
  readonly name: string
  readonly engines: readonly string[]
  readonly rounds: number
  readonly say: Say
  /** Gains a line for each disagreement and each engine that failed. */
  readonly problems: string[]
}

/** Turn i of every engine has the batch of seed 1000 + i. Throws where nothing was dispatched: that was not computed on the GPU. */
async function turn(runner: Runner): Promise<number> {
  const batch = makeBatch(1000 + runner.losses.length)
  setOwner(runner.owner)
  takeCounts()
  const began = performance.now()
  const loss = await runner.work.run(batch)
  const ms = performance.now() - began
  runner.counts = takeCounts()
  if (runner.counts.dispatches === 0) throw new Error('a loss came back and nothing was dispatched')
  runner.losses.push(loss)
  return ms
}

/** Those that can do it, warmed up; one that fails is a problem of its own and leaves the others to be measured. */
async function startAll({ name, engines, say, problems }: Turns, create: (engine: string) => Promise<Work | null>): Promise<Runner[]> {
  const runners: Runner[] = []
  for (const engine of engines) {
    try {
      const owner = `${engine} ${name}`
      setOwner(owner)
      const began = performance.now()
      const work = await create(engine)
      if (!work) continue
      const runner: Runner = { engine, owner, work, losses: [], ms: [], counts: { dispatches: 0, submits: 0 } }
      for (let i = 0; i < WARM_UP; i++) await turn(runner)
      say(`${name}, ${engine}: ready after ${((performance.now() - began) / 1000).toFixed(1)} s`)
      runners.push(runner)
    } catch (error) {
      problems.push(`${name}, ${engine}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return runners
}

/** Largest difference of any engine's losses to the first engine's: of the first turn, and of all. */
function lossDifferences(runners: readonly Runner[]): { first: number; all: number } {
  const differences = runners.flatMap((r) => r.losses.map((loss, i) => Math.abs(loss - runners[0].losses[i])))
  const worst = (values: number[]) => (values.some(Number.isNaN) ? NaN : Math.max(...values))
  return { first: worst(runners.map((r) => Math.abs(r.losses[0] - runners[0].losses[0]))), all: worst(differences) }
}

/**
 * Every engine for which `create` resolves to something, after all its turns; the caller disposes of their work. Its first loss may differ from the others'
 * by FIRST_LOSS_TOLERANCE.
 */
export async function takeTurns(o: Turns, create: (engine: string) => Promise<Work | null>): Promise<Runner[]> {
  const { name, rounds, say, problems } = o
  const runners = await startAll(o, create)
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < runners.length; i++) {
      const runner = runners[(round + i) % runners.length]
      runner.ms.push(await turn(runner))
    }
    say(`${name}, round ${round + 1}: ${runners.map((r) => `${r.engine} ${r.ms.at(-1)!.toFixed(0)} ms`).join(', ')}`)
  }
  if (runners.length === 0) return []
  const { first, all } = lossDifferences(runners)
  say(`${name}: losses of all engines differ by at most ${first.toExponential(1)} in the first turn, ${all.toExponential(1)} in any`)
  if (!(first <= FIRST_LOSS_TOLERANCE))
    problems.push(`${name}: first losses differ by ${first}: ${runners.map((r) => `${r.engine} ${r.losses[0]}`).join(', ')}`)
  return runners
}

/** What a row says of an engine's turns, each of `tokens` tokens. */
export function turnsRow(name: string, { engine, owner, work, losses, ms, counts }: Runner, tokens: number): Row {
  return {
    case: name,
    engine,
    ms: median(ms),
    dispatches: counts.dispatches,
    submits: counts.submits,
    planned_bytes: work.plannedBytes ?? null,
    allocated_bytes: peakBytes(owner),
    tokens_per_s: (tokens * 1000) / median(ms),
    first_loss: losses[0],
  }
}
