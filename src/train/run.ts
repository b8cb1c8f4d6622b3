/** @file A whole run around a trainer: steps, evaluations, samples, checkpoints, early stopping. The engine worker and the command line run this. */
import { type BatchCursor, type BatchSource } from '../data/collate.ts'
import type { TokenRows } from '../data/types.ts'
import { GpuError, RunError } from '../errors.ts'
import type { EvalRecord, RunExtras, SampleRecord, StepRecord } from './run_config.ts'
import { type Command, RunControl } from './run_control.ts'
import type { Trainer, TrainerState } from './trainer.ts'

/** Trained values at the lowest held-out loss so far, a buffer for each arena. */
export interface Best {
  readonly record: EvalRecord
  readonly params: readonly ArrayBuffer[]
}
/** What was measured so far, in order. */
export interface RunRecords {
  readonly steps: readonly StepRecord[]
  readonly evals: readonly EvalRecord[]
  readonly samples: readonly SampleRecord[]
}
/** Everything needed to go on as if never stopped: taken between two steps, when all that was due after the earlier one is done. */
export interface Checkpoint {
  readonly state: TrainerState
  readonly cursor: BatchCursor
  readonly records: RunRecords
  /** Null unless the best is kept and there was an evaluation. */
  readonly best: Best | null
}

/** Why a run ended: all steps done, told to, or no better evaluation for `patience` of them. */
export type EndReason = 'steps' | 'stopped' | 'patience'
export type RunEvent =
  | { readonly type: 'status'; readonly status: 'running' | 'paused'; readonly step: number }
  | { readonly type: 'step'; readonly record: StepRecord }
  | { readonly type: 'eval'; readonly record: EvalRecord; readonly best: boolean }
  | { readonly type: 'sample'; readonly record: SampleRecord }
  | { readonly type: 'checkpoint'; readonly step: number }
  | {
      readonly type: 'done'
      readonly reason: EndReason
      /** Optimizer steps done. */
      readonly step: number
      /** The evaluation whose adapter is on the GPU now, where the best was kept and was not the last. */
      readonly restored: EvalRecord | null
    }

export const NO_EXTRAS: RunExtras = {
  evalEvery: 0,
  patience: 0,
  keepBest: false,
  sampleEvery: 0,
  samplePrompts: [],
  sampleTokens: 0,
  checkpointEvery: 0,
}

export interface RunInput {
  /** Fresh, or already restored where `from` is not used. */
  readonly trainer: Trainer
  readonly source: BatchSource
  readonly held: TokenRows | null
  readonly extras: RunExtras
  readonly control?: RunControl
  /** Ends the run at once: the generator throws its reason. */
  readonly signal?: AbortSignal
  /** What the model writes after a prompt. */
  readonly sample?: (prompt: string) => Promise<string>
  /** Store a checkpoint. The run waits for it. */
  readonly save?: (checkpoint: Checkpoint) => Promise<void>
  /** Go on from here. */
  readonly from?: Checkpoint
}

/**
 * Runs to the end, yielding each event after it happened. Evaluations: before the first step, every `evalEvery`, after the last; samples the same.
 * Checkpoints: every `checkpointEvery`, when paused, when asked for, at the end, and when a step fails on the numbers.
 * While one step is computed the next one is written and waits in the GPU's queue, except where something is due between them: a step's event comes when
 * its loss arrived, and a command acts after the steps that are submitted.
 * Throws what a step throws (RunError, GpuError), with everything yielded so far valid and the trained values those of the step before.
 */
export async function* run(input: RunInput): AsyncGenerator<RunEvent, void, undefined> {
  const { trainer, extras, signal, control = new RunControl() } = input
  const r = new Run(input)
  let status: 'running' | 'paused' = 'running'
  let reason: EndReason = 'steps'
  /** What to do once nothing is in flight. */
  let command: Command | null = null
  try {
    if (trainer.done === 0) yield* r.look(true)
    while (trainer.done < trainer.o.steps) {
      signal?.throwIfAborted()
      if (trainer.inFlight === 0 && r.patienceEnded) {
        reason = 'patience'
        break
      }
      if (command === null && r.maySubmit) {
        const next = control.next()
        if (next !== 'step') command = next
        else {
          if (status === 'paused') yield { type: 'status', status: (status = 'running'), step: trainer.done }
          r.submit()
          continue
        }
      }
      if (trainer.inFlight > 0) {
        yield { type: 'step', record: await r.take() }
        if (trainer.inFlight > 0) continue
        yield* r.look(trainer.done === trainer.o.steps)
        if (isDue(trainer.done, extras.checkpointEvery)) yield* r.checkpoint()
        continue
      }
      if (command === 'stop') {
        reason = 'stopped'
        break
      }
      yield* r.checkpoint()
      if (command === 'wait') {
        if (status === 'running') yield { type: 'status', status: (status = 'paused'), step: trainer.done }
        await control.changed(signal)
      }
      command = null
    }
    if (reason !== 'steps') yield* r.look(true)
    yield* r.checkpoint()
  } catch (e) {
    // The values are those of the last good step: worth keeping, unless the GPU that holds them is gone or nobody wants them.
    if (!(e instanceof GpuError) && !signal?.aborted) yield* r.checkpointOrNot()
    throw e
  }
  yield { type: 'done', reason, step: trainer.done, restored: r.restoreBest() }
}

const isDue = (step: number, every: number): boolean => every > 0 && step % every === 0

/** The state of a run between its events. */
class Run {
  readonly #steps: StepRecord[]
  readonly #evals: EvalRecord[]
  readonly #samples: SampleRecord[]
  /** Place in the data after the last step that is done, and after each in flight. */
  #cursor: BatchCursor
  readonly #cursors: BatchCursor[] = []
  #best: Best | null
  /** Step of the newest stored checkpoint. */
  #saved = -1

  constructor(readonly input: RunInput) {
    const { trainer, source, from } = input
    if (from) {
      trainer.restore(from.state)
      source.cursor = from.cursor
      this.#saved = from.state.step
    }
    this.#steps = [...(from?.records.steps ?? [])]
    this.#evals = [...(from?.records.evals ?? [])]
    this.#samples = [...(from?.records.samples ?? [])]
    this.#best = from?.best ?? null
    this.#cursor = source.cursor
  }

  /** Whether the next step may go behind those in flight: there is room, and nothing is to be done between them. */
  get maySubmit(): boolean {
    const { trainer, extras, held, sample } = this.input
    const last = trainer.done + trainer.inFlight
    if (trainer.inFlight === 0) return true
    const due = [held ? extras.evalEvery : 0, sample ? extras.sampleEvery : 0, extras.checkpointEvery].some((every) => isDue(last, every))
    return trainer.hasRoom && !due && last < trainer.o.steps
  }
  submit(): void {
    const { trainer, source } = this.input
    trainer.submit(source.step(), source.data)
    this.#cursors.push(source.cursor)
  }
  /** The oldest step in flight, when it is done. */
  async take(): Promise<StepRecord> {
    const record = await this.input.trainer.take()
    this.#cursor = this.#cursors.shift()!
    this.#steps.push(record)
    return record
  }

  /** What is due after the steps done: evaluation and samples. `end`: also where it is not their turn. */
  async *look(end: boolean): AsyncGenerator<RunEvent, void, undefined> {
    const { trainer, held, extras, signal, sample } = this.input
    const { done } = trainer
    if (held && extras.evalEvery > 0 && (end || isDue(done, extras.evalEvery)) && this.#evals.at(-1)?.step !== done) {
      const record = await trainer.evaluate(held, signal)
      const best = record.loss < this.#lowest()
      this.#evals.push(record)
      if (best && extras.keepBest) this.#best = { record, params: await readParams(trainer) }
      yield { type: 'eval', record, best }
    }
    if (!sample || !(end || isDue(done, extras.sampleEvery)) || this.#samples.at(-1)?.step === done) return
    for (const prompt of extras.samplePrompts) {
      signal?.throwIfAborted()
      const record = { step: done, prompt, text: await sample(prompt) }
      this.#samples.push(record)
      yield { type: 'sample', record }
    }
  }

  #lowest(): number {
    return Math.min(Infinity, ...this.#evals.map((e) => e.loss))
  }

  get patienceEnded(): boolean {
    const { patience } = this.input.extras
    if (patience <= 0) return false
    const lowest = this.#evals.findIndex((e) => e.loss === this.#lowest())
    return lowest >= 0 && this.#evals.length - 1 - lowest >= patience
  }

  /** Store the state, unless this step's is stored already. */
  async *checkpoint(): AsyncGenerator<RunEvent, void, undefined> {
    const { trainer, save } = this.input
    const step = trainer.done
    if (!save || this.#saved === step) return
    const records = { steps: [...this.#steps], evals: [...this.#evals], samples: [...this.#samples] }
    await save({ state: await trainer.state(), cursor: this.#cursor, records, best: this.#best })
    this.#saved = step
    yield { type: 'checkpoint', step }
  }

  /** The same where another error is already on its way, which is the one to be told. */
  async *checkpointOrNot(): AsyncGenerator<RunEvent, void, undefined> {
    try {
      yield* this.checkpoint()
    } catch {
      return
    }
  }

  /** Put the best values back on the GPU, where they are wanted and not there already. */
  restoreBest(): EvalRecord | null {
    const { trainer, extras } = this.input
    if (!extras.keepBest || !this.#best || this.#best.record.step === trainer.done) return null
    const { arenas } = trainer.program.t.trained!
    if (arenas.length !== this.#best.params.length)
      throw new RunError('the best adapter kept belongs to another run', { where: 'checkpoint' })
    arenas.forEach((a, i) => a.param.write(new Uint8Array(this.#best!.params[i])))
    return this.#best.record
  }
}

async function readParams(trainer: Trainer): Promise<ArrayBuffer[]> {
  const params: ArrayBuffer[] = []
  for (const a of trainer.program.t.trained!.arenas) params.push(await a.param.read())
  return params
}
