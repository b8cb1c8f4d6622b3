/**
 * @file Measures the forward pass of every engine on the bench model, up to the mean loss that is read back: same weights, same batches, rounds in which the
 * engines take turns. Unlike a step, engines that only infer can do it.
 */
import { ENGINES } from './engines.ts'
import { benchBundle } from './etude.ts'
import { lossFlops } from './flops.ts'
import { makeBatch, makeWeights, BATCH, SEQ } from './model.ts'
import type { Peak } from './peak.ts'
import { shareOf, type Row, type Say } from './report.ts'
import { FIRST_LOSS_TOLERANCE, takeTurns, turnsRow, type Work } from './turns.ts'

export interface ForwardOptions {
  readonly rounds: number
  readonly peak: Peak
  readonly say: Say
  /** Gains a line for each disagreement. */
  readonly problems: string[]
}

async function forwardOf(engine: string): Promise<Work | null> {
  const { createForward } = await ENGINES[engine]()
  if (!createForward) return null
  const forward = await createForward(makeWeights())
  return { run: (batch) => forward.loss(batch), plannedBytes: forward.plannedBytes, dispose: () => forward.dispose() }
}

/** Lines about the rows whose loss is not the one that `steps` begin with: the adapter starts as nothing, so both are losses of the same weights and batch. */
export function partings(rows: readonly Row[], steps: readonly Row[]): string[] {
  const step = steps.find((r) => /^(lora|full)-step$/.test(r.case))
  if (!step) return []
  return rows
    .filter((r) => !(Math.abs(r.first_loss! - step.first_loss!) <= FIRST_LOSS_TOLERANCE))
    .map((r) => `forward, ${r.engine}: loss ${r.first_loss}, but ${step.case} of ${step.engine} begins with ${step.first_loss}`)
}

/** The forward case, a row an engine. @param before rows of the same run: losses are held against its steps', where it has some. */
export async function benchForward(
  engines: readonly string[],
  before: readonly Row[],
  { rounds, peak, say, problems }: ForwardOptions,
): Promise<Row[]> {
  const runners = await takeTurns({ name: 'forward', engines, rounds, say, problems }, forwardOf)
  if (runners.length === 0) return []
  const shape = { batch: BATCH, seq: SEQ, labelled: makeBatch(0).tokens }
  const gflop = lossFlops(await benchBundle(makeWeights()), shape) / 1e9
  const rows = runners.map((runner) => {
    runner.work.dispose()
    const row = turnsRow('forward', runner, BATCH * SEQ)
    // Not counted: engines that keep the buffers of earlier cases allocate next to nothing here.
    return { ...row, allocated_bytes: null, ...shareOf(gflop, row.ms, peak) }
  })
  problems.push(...partings(rows, before))
  return rows
}
