/** @file Measures a training step of every engine on the bench model: same weights, same batches, rounds in which the engines take turns. */
import { ENGINES } from './engines.ts'
import { benchBundle } from './etude.ts'
import { stepFlops } from './flops.ts'
import { makeBatch, makeWeights, BATCH, LORA, SEQ, type Method } from './model.ts'
import type { Peak } from './peak.ts'
import { shareOf, type Row, type Say } from './report.ts'
import { takeTurns, turnsRow, type Work } from './turns.ts'

async function trainerOf(engine: string, method: Method): Promise<Work | null> {
  const { create } = await ENGINES[engine]()
  if (!create) return null
  const trainer = await create(makeWeights(), method)
  return { run: (batch) => trainer.step(batch), plannedBytes: trainer.plannedBytes, dispose: () => trainer.dispose() }
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
  const runners = await takeTurns({ name: `${method} step`, engines, rounds, say, problems }, (engine) => trainerOf(engine, method))
  if (runners.length === 0) return []
  const gflop = method === 'lora' ? await loraGflop() : null
  return runners.map((runner) => {
    runner.work.dispose()
    const row = turnsRow(`${method}-step`, runner, BATCH * SEQ)
    return { ...row, ...(gflop !== null && shareOf(gflop, row.ms, peak)), last_loss: runner.losses.at(-1)! }
  })
}
