/** @file Runs optimizer steps and evaluations over batches; saves and restores its whole state. The same in a worker, in Node and in tests. */
import { RunError } from '../errors.ts'
import { type Batch, evalBatches } from '../data/collate.ts'
import type { TokenRows } from '../data/types.ts'
import { type Gpu, targetOf } from '../gpu/device.ts'
import { NoRoomError, type Refusal, touch, trial } from '../gpu/trial.ts'
import { waitFor } from '../gpu/wait.ts'
import { STATS } from '../autograd/ops/optimizer.ts'
import { dynamicTables } from '../optim/dynamic_map.ts'
import { rateAt } from '../optim/schedule.ts'
import type { MemoryClass } from '../tensor/graph.ts'
import { Session } from '../tensor/program.ts'
import { Recorder } from '../tensor/recorder.ts'
import type { Arena } from './param_set.ts'
import { type Arrival, IN_FLIGHT, Readback } from './readback.ts'
import { leanerStep, refusalOf } from './refusals.ts'
import type { EvalRecord, RunOptions, StepRecord } from './run_config.ts'
import { memoryBudget, planStep } from './policy.ts'
import type { Tunable, TrainStep } from './step.ts'

/** Everything that training changes: with the data cursor, enough to go on as if never stopped. */
export interface TrainerState {
  /** Optimizer steps done. */
  readonly step: number
  /** f32; moments as they are kept. */
  readonly arenas: readonly { readonly param: ArrayBuffer; readonly m: ArrayBuffer; readonly v: ArrayBuffer }[]
}
export type TrainerOptions = Pick<
  RunOptions,
  'batch' | 'seq' | 'clip' | 'weight_decay' | 'policy' | 'activation_dtype' | 'lr' | 'schedule' | 'warmup' | 'steps' | 'seed'
>

/** A step that was submitted and whose result is not here yet. */
interface Pending {
  readonly step: number
  readonly lr: number
  /** Labelled tokens. */
  readonly tokens: number
  readonly batches: readonly Batch[]
  readonly start: number
  readonly result: Promise<Arrival>
}

export class Trainer {
  /** Optimizer steps done, whose results are here. */
  done = 0
  /** Submits of the latest step. */
  submits = 0
  readonly #pending: Pending[] = []
  /** When the latest result came. */
  #arrived = 0
  private constructor(
    readonly gpu: Gpu,
    readonly o: TrainerOptions,
    readonly program: TrainStep,
    readonly session: Session,
    readonly readback: Readback,
    /** What `auto` did because the GPU had no room, to be shown. */
    readonly notes: readonly string[],
  ) {}

  /** Allocate and compile, and use every buffer once, so that what the GPU refuses is found here; under the policy `auto` the next one is then tried. The
   * tunable's own buffers must be filled. Throws GpuError naming the class of memory that the leanest policy had no room for; then nothing of the trainer is left.
   * @param planned the step to begin with, by default the plan of these options */
  static async create(gpu: Gpu, t: Tunable, o: TrainerOptions, planned: TrainStep | null = null): Promise<Trainer> {
    const target = targetOf(gpu.traits)
    const notes: string[] = []
    let program = planned ?? planStep(t, o, target, memoryBudget(gpu.traits))
    for (;;) {
      try {
        return await Trainer.#make(gpu, program, o, notes)
      } catch (e) {
        const leaner = e instanceof NoRoomError && o.policy === 'auto' ? leanerStep(program, t, o, target) : null
        if (!leaner) throw e
        notes.push(leaner.note)
        program = leaner.step
      }
    }
  }

  static async #make(gpu: Gpu, program: TrainStep, o: TrainerOptions, notes: readonly string[]): Promise<Trainer> {
    const { t, plan } = program
    const trainsWeights = t.trained !== null && t.adapter === null
    const refusal = (memory: MemoryClass): Refusal => refusalOf(memory, plan.bytes[memory], { total: plan.total, trainsWeights })
    const session = await Session.create(gpu, plan, (memory, make) => trial(gpu, refusal(memory), async () => touch(gpu, await make())))
    let readback: Readback
    try {
      // Gradients and moments begin at zero, whoever used them before.
      for (const { training } of t.trained?.arenas ?? []) {
        const { grad, m, v } = training!
        await trial(gpu, refusal('adapter'), () => touch(gpu, [grad.buffer]))
        await trial(gpu, refusal('optimizer'), () => touch(gpu, [m.buffer, v.buffer]))
      }
      readback = await trial(
        gpu,
        refusal('batch'),
        () => new Readback(gpu),
        (r) => r?.destroy(),
      )
    } catch (e) {
      session.destroy()
      for (const s of program.own()) s.destroy()
      throw e
    }
    program.rope.invFreq.write(program.rope.values)
    program.tables?.write(dynamicTables())
    t.trained?.arenas.forEach((a, i) => a.training!.lrScale.write(t.trained!.lrScale(i)))
    return new Trainer(gpu, o, program, session, readback, notes)
  }

  /** Steps submitted whose results are not here yet. */
  get inFlight(): number {
    return this.#pending.length
  }
  /** Whether another step may be submitted now. */
  get hasRoom(): boolean {
    return this.inFlight < IN_FLIGHT
  }

  /** Submit one optimizer step over its micro-batches, behind those in flight; `take` gets its result. Not without `hasRoom`.
   * `data`: where their rows come from (a prompt's last position predicts a row's first token). */
  submit(batches: readonly Batch[], data: TokenRows): void {
    const { gpu, program, session, o } = this
    if (!this.hasRoom) throw new Error(`${IN_FLIGHT} steps are in flight already`)
    const start = performance.now()
    const { buffers } = program
    const first = batches.map((b) => (buffers.prompt > 0 ? firstLabels(b, data) : null))
    const tokens = batches.reduce((n, b, i) => n + buffers.count(b, first[i]), 0)
    const step = this.done + this.inFlight + 1
    program.lr.value = o.lr * rateAt(o.schedule, step, o.warmup, o.steps)
    program.step.value = step
    program.seed.value = (o.seed ^ Math.imul(step, 0x9e3779b1)) >>> 0
    buffers.scale.value = tokens > 0 ? 1 / tokens : 0
    const out = new Recorder(gpu)
    out.encoder.clearBuffer(buffers.lossSum.buffer)
    batches.forEach((b, i) => {
      if (i > 0) out.flush()
      buffers.write(b, first[i])
      // Dropout differs between the micro-batches of a step too.
      if (i > 0) program.seed.value = (program.seed.value + 0x85ebca6b) >>> 0
      session.program('micro').record(out)
    })
    session.program('update').record(out)
    this.submits = out.submits + 1
    const result = this.readback.submit(out.encoder, [
      { buffer: buffers.lossSum.buffer, bytes: 4 },
      { buffer: program.stats.buffer, bytes: 16 },
    ])
    this.#pending.push({ step, lr: program.lr.value, tokens, batches, start, result })
  }

  /** The result of the oldest step in flight. Throws RunError when its loss or gradient is not finite: nothing is in flight then, and the parameters
   * are those before it (steps after such a one change nothing on the GPU either). */
  async take(): Promise<StepRecord> {
    const p = this.#pending[0]
    if (!p) throw new Error('no step is in flight')
    const { values, at } = await waitFor(p.result)
    const [sum, norm, , notFinite] = values
    const loss = p.tokens > 0 ? sum / p.tokens : 0
    if (!Number.isFinite(loss) || !Number.isFinite(norm) || notFinite !== 0) {
      for (const later of this.#pending.splice(0).slice(1)) await waitFor(later.result)
      this.program.stats.write(new Float32Array(STATS.length))
      throw new RunError(`the ${Number.isFinite(loss) ? 'gradient' : 'loss'} is not finite`, {
        where: `step ${p.step}, rows ${p.batches
          .flatMap((b) => b.rows.map((r) => r + 1))
          .slice(0, 16)
          .join(', ')}`,
        why: 'going on would turn every trained weight into NaN; the weights are those of the step before',
        fix: 'Lower the learning rate or add warm-up steps, and look at these rows',
      })
    }
    this.#pending.shift()
    this.done = p.step
    // A step waits in the queue while the one before it is computed: that is not its time.
    const ms = at - Math.max(p.start, this.#arrived)
    this.#arrived = at
    return { step: p.step, loss, grad_norm: norm, lr: p.lr, tokens: p.tokens, ms }
  }

  /** One step alone: submitted and waited for. Throws what `take` throws. */
  step(batches: readonly Batch[], data: TokenRows): Promise<StepRecord> {
    this.#requireIdle()
    this.submit(batches, data)
    return this.take()
  }
  #requireIdle(): void {
    if (this.inFlight > 0) throw new Error('steps are in flight: take their results first')
  }

  /** Mean loss over every labelled token of `data`; each row once, cut at `seq`. */
  async evaluate(data: TokenRows, signal?: AbortSignal): Promise<EvalRecord> {
    const { gpu, program, session, o } = this
    const { buffers } = program
    buffers.scale.value = 1
    this.#requireIdle()
    let tokens = 0
    let loss = 0
    const pending: Promise<Arrival>[] = []
    const take = async (): Promise<void> => {
      loss += (await waitFor(pending.shift()!)).values[0]
    }
    for (const b of evalBatches(data, o.batch, o.seq)) {
      if (signal?.aborted) for (const p of pending.splice(0)) await waitFor(p)
      signal?.throwIfAborted()
      // By what was not taken: a result may have come, and its buffer be free, without anybody having looked.
      if (pending.length === IN_FLIGHT) await take()
      const full = fillUp(b, o.batch)
      const first = buffers.prompt > 0 ? [...firstLabels(b, data), ...new Array<number>(o.batch - b.B).fill(-100)] : null
      buffers.write(full, first)
      const out = new Recorder(gpu)
      out.encoder.clearBuffer(buffers.lossSum.buffer)
      session.program('evaluate').record(out)
      pending.push(this.readback.submit(out.encoder, [{ buffer: buffers.lossSum.buffer, bytes: 4 }]))
      tokens += buffers.count(full, first)
    }
    while (pending.length > 0) await take()
    if (tokens === 0)
      throw new RunError('no row of the held-out data has a trained token', {
        fix: 'Check the mapping of its columns, or raise the longest row',
      })
    return { step: this.done, loss: loss / tokens, perplexity: Math.exp(loss / tokens), tokens }
  }

  /** Not while steps are in flight. */
  async state(): Promise<TrainerState> {
    this.#requireIdle()
    const arenas = []
    for (const a of this.program.t.trained!.arenas)
      arenas.push({ param: await a.param.read(), m: await a.training!.m.read(), v: await a.training!.v.read() })
    return { step: this.done, arenas }
  }
  restore(s: TrainerState): void {
    this.#requireIdle()
    const { arenas } = this.program.t.trained!
    const sizes = (a: Arena): number[] => [a.param.bytes, a.training!.m.bytes, a.training!.v.bytes]
    if (
      s.arenas.length !== arenas.length ||
      s.arenas.some((a, i) => [a.param, a.m, a.v].some((x, k) => x.byteLength !== sizes(arenas[i])[k]))
    )
      throw new RunError('the checkpoint belongs to another run', {
        where: 'checkpoint',
        why: 'its parameters have other sizes',
        fix: 'Start the run anew',
      })
    arenas.forEach((a, i) => {
      a.param.write(new Uint8Array(s.arenas[i].param))
      a.training!.m.write(new Uint8Array(s.arenas[i].m))
      a.training!.v.write(new Uint8Array(s.arenas[i].v))
    })
    this.done = s.step
  }

  destroy(): void {
    this.session.destroy()
    this.readback.destroy()
    for (const s of this.program.own()) s.destroy()
  }
}

/** Label of each sequence's first token. */
const firstLabels = (b: Batch, data: TokenRows): number[] => b.rows.map((r) => data.labels[data.offsets[r]])

/** A batch of `B` sequences: empty ones are added at the end. */
function fillUp(b: Batch, B: number): Batch {
  if (b.B === B) return b
  const grow = (a: Int32Array, value: number): Int32Array<ArrayBuffer> => {
    const out = new Int32Array(B * b.T).fill(value)
    out.set(a)
    return out
  }
  const lengths = new Int32Array(B)
  lengths.set(b.lengths)
  return {
    ...b,
    B,
    ids: grow(b.ids, 0),
    labels: grow(b.labels, -100),
    positions: grow(b.positions, 0),
    segmentStart: grow(b.segmentStart, 0),
    lengths,
  }
}
