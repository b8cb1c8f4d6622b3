/** @file Plans as the page asks for them, and the probe that measures a step. */
import { BatchSource } from '../../data/collate.ts'
import type { TokenRows } from '../../data/types.ts'
import { RunError } from '../../errors.ts'
import { parseOptions } from '../../options.ts'
import { RUN_OPTIONS, type RunConfig, type RunExtras, type RunOptions } from '../../train/run_config.ts'
import { Trainer } from '../../train/trainer.ts'
import { findMethod } from '../../train/tunable.ts'
import type { EngineCommand, RunPlan } from '../protocol.ts'
import { checkRows } from './checkpoint.ts'
import { makePlan } from './planner.ts'
import { hooksOf, type Request, type Shared } from './shared.ts'
import { NOTHING, watchedBy } from './watched.ts'

type Plan = Extract<EngineCommand, { type: 'plan' }>

/** The plan, and with `probe` the time of a step. */
export async function plan(s: Shared, c: Plan, r: Request): Promise<RunPlan> {
  const { model } = s.need()
  const made = planOf(s, c.config, c.extras ?? null, c.compare)
  if (!c.probe || made.refusal || !c.rows) return made
  const { rows } = c
  const run = parseOptions(RUN_OPTIONS, c.config.run)
  checkRows(rows, model.bundle.config.vocabSize, 'training data')
  if (s.run?.record.status === 'running')
    throw new RunError('a run is using the GPU', { where: s.run.record.name, fix: 'Pause it to measure another one' })
  return s.lock.run(async () => {
    r.signal.throwIfAborted()
    const { room } = s.need()
    return room.cancellable(r.signal, async () => ({ ...made, ...(await measure(s, c.config, { ...run, policy: made.policy }, rows, r)) }))
  })
}

/** Two steps on parameters that are thrown away, of which the second counts. With the lock held. */
async function measure(
  s: Shared,
  { method, options }: RunConfig,
  run: RunOptions,
  rows: TokenRows,
  r: Request,
): Promise<Pick<RunPlan, 'submits' | 'msPerStep'>> {
  const { gpu, room } = s.need()
  const source = new BatchSource(rows, run)
  const { base, seed, optim } = run
  const layout = await room.layout({ method: findMethod(method), options, base, seed, optim, trainable: true, loaded: null }, hooksOf(r))
  let trainer: Trainer | null = null
  try {
    r.signal.throwIfAborted()
    r.progress('Making buffers and kernels', 0, 0, 'steps')
    trainer = await Trainer.create(gpu, layout, run)
    let ms = 0
    for (let i = 0; i < 2; i++) {
      r.signal.throwIfAborted()
      r.progress('Measuring a step', i, 2, 'steps')
      ms = (await trainer.step(source.step(), rows)).ms
    }
    return { submits: trainer.submits, msPerStep: ms }
  } finally {
    trainer?.destroy()
    room.release(layout)
  }
}

/** The plan of a run on the model that is loaded. `extras` null: nothing is watched. */
export function planOf(s: Shared, config: RunConfig, extras: RunExtras | null, compare = false): RunPlan {
  const { gpu, model } = s.need()
  const watched = extras ? watchedBy(model, extras) : NOTHING
  return makePlan(model.bundle, config, { traits: gpu.traits, budget: s.budget }, { watched, compare })
}
