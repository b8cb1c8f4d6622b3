/** @file The run that the engine holds: its trainer on the GPU, its loop, its chart, and its files. At most one at a time. */
import { BatchSource } from '../../data/collate.ts'
import { RunError, toWire, type WireError } from '../../errors.ts'
import type { Gpu } from '../../gpu/device.ts'
import { type Checkpoint, run, type RunEvent, type RunRecords } from '../../train/run.ts'
import type { FixedPolicy } from '../../train/run_config.ts'
import { Trainer } from '../../train/trainer.ts'
import type { TunableLayout } from '../../train/tunable.ts'
import type { EngineEvent, RunStatus, RunSummary } from '../protocol.ts'
import type { RunData } from './checkpoint.ts'
import type { Lock } from './lock.ts'
import { type Measured, type RunRecord, type RunStore, summaryOf, upTo } from './run_store.ts'
import { YieldingControl } from './yielding_control.ts'

/** The chart is stored at least this often while steps come, in ms. */
const JOURNAL_EVERY = 1000

export interface RunParts {
  readonly gpu: Gpu
  readonly lock: Lock
  readonly store: RunStore
  readonly layout: TunableLayout
  readonly data: RunData
  readonly post: (event: EngineEvent) => void
  /** Lets other tabs have the run. */
  readonly release: () => void
  /** What the model writes after a prompt, now; null: it cannot write. */
  readonly sample: ((layout: TunableLayout, prompt: string, tokens: number) => Promise<string>) | null
  /** The policy that was planned. */
  readonly policy: FixedPolicy
}

export class HeldRun {
  #measured: RunRecords
  #control: YieldingControl | null = null
  #loop: Promise<void> = Promise.resolve()
  #abort = new AbortController()
  #unsaved: Measured[] = []
  #savedAt = 0
  #waiting: (() => void)[] = []
  #closed = false

  private constructor(
    readonly record: RunRecord,
    readonly parts: RunParts,
    readonly trainer: Trainer,
    readonly source: BatchSource,
    measured: RunRecords,
  ) {
    this.#measured = measured
  }

  /** Make the trainer for a layout that is filled. `measured`: the chart so far. */
  static async create(record: RunRecord, parts: RunParts, measured: RunRecords): Promise<HeldRun> {
    const source = new BatchSource(parts.data.train, record.config.run)
    const trainer = await Trainer.create(parts.gpu, parts.layout, { ...record.config.run, policy: parts.policy })
    return new HeldRun(record, parts, trainer, source, measured)
  }

  get runId(): string {
    return this.record.runId
  }
  get active(): boolean {
    return this.#control !== null
  }
  get measured(): RunRecords {
    return this.#measured
  }
  get summary(): RunSummary {
    return summaryOf(this.record, this.#measured)
  }

  /** Put the stored checkpoint on the GPU: what a run that ended kept, or where one that did not goes on. */
  async restore(): Promise<void> {
    const c = await this.parts.store.readCheckpoint(this.runId)
    if (!c) return
    this.trainer.restore(c.state)
    this.source.cursor = c.cursor
    const ended = this.record.status === 'done' || this.record.status === 'stopped'
    if (ended && this.record.extras.keepBest && c.best && c.best.record.step !== c.state.step)
      this.parts.layout.trained!.arenas.forEach((a, i) => a.param.write(new Uint8Array(c.best!.params[i])))
  }

  /** Store the start, so that a run whose start is not a matter of its seed can go on after a crash before its first checkpoint. */
  async storeStart(): Promise<void> {
    await this.parts.store.writeCheckpoint(this.runId, { state: await this.trainer.state(), cursor: this.source.cursor, best: null })
  }

  /** Let the loop run: from the start, or from the newest checkpoint. `paused`: it waits before its next step. */
  async go(paused: boolean): Promise<YieldingControl> {
    if (this.#control) {
      if (!paused) this.#control.resume()
      return this.#control
    }
    const { store } = this.parts
    const control = (this.#control = new YieldingControl(this.parts.lock, paused))
    try {
      const stored = await store.readCheckpoint(this.runId)
      const step = stored?.state.step ?? 0
      const again = this.#measured.steps.length > 0 || this.#measured.evals.length > 0 || this.#measured.samples.length > 0
      this.#measured = upTo(this.#measured, stored ? step : -1)
      if (again) this.#unsaved.push({ from: stored ? step : -1 })
      const from = stored && { ...stored, records: this.#measured }
      if (!stored && this.trainer.done > 0)
        throw new RunError('no checkpoint of this run could be stored', {
          where: this.record.name,
          why: 'Its moments and its place in the data are needed to go on',
          fix: 'Export what is trained, free some storage and start anew from that adapter',
        })
      this.record.error = null
      this.record.status = 'running'
      this.#loop = this.#run(control, from)
    } catch (e) {
      this.#control = null
      throw e
    }
    return control
  }

  async #run(control: YieldingControl, from: Checkpoint | null): Promise<void> {
    const { trainer, source } = this
    const { layout, data, sample, store } = this.parts
    const { extras } = this.record
    const signal = this.#abort.signal
    const events = run({
      trainer,
      source,
      held: data.held,
      extras,
      control,
      signal,
      ...(sample && { sample: (prompt) => sample(layout, prompt, extras.sampleTokens) }),
      save: async (c) => {
        await this.#flush()
        await store.writeCheckpoint(this.runId, c)
      },
      ...(from && { from }),
    })
    try {
      await this.#say('running')
      for (;;) {
        await control.enter()
        let next: IteratorResult<RunEvent, void>
        try {
          signal.throwIfAborted()
          next = await events.next()
        } finally {
          control.leave()
        }
        if (next.done) break
        await this.#take(next.value)
      }
    } catch (e) {
      await this.#fail(toWire(e))
    } finally {
      this.#control = null
      this.#wake()
    }
  }

  async #take(event: RunEvent): Promise<void> {
    const { post } = this.parts
    const { runId } = this
    switch (event.type) {
      case 'step':
        this.record.step = event.record.step
        this.#add({ step: event.record })
        this.#measured = { ...this.#measured, steps: append(this.#measured.steps, event.record) }
        post({ type: 'run-step', runId, record: event.record })
        if (Date.now() - this.#savedAt > JOURNAL_EVERY) await this.#flush()
        return
      case 'eval':
        this.#add({ eval: event.record })
        this.#measured = { ...this.#measured, evals: append(this.#measured.evals, event.record) }
        post({ type: 'run-eval', runId, record: event.record, best: event.best })
        return
      case 'sample':
        this.#add({ sample: event.record })
        this.#measured = { ...this.#measured, samples: append(this.#measured.samples, event.record) }
        post({ type: 'run-sample', runId, record: event.record })
        return
      case 'checkpoint':
        this.record.checkpointStep = event.step
        await this.#say(this.record.status)
        return
      case 'status':
        await this.#say(event.status)
        return
      case 'done':
        await this.#flush()
        await this.#say(event.reason === 'stopped' ? 'stopped' : 'done')
        return
      default:
        event satisfies never
    }
  }

  /** Pause, and wait until it is so. */
  async pause(): Promise<void> {
    this.#control?.pause()
    while (this.#control && this.record.status === 'running') await this.#change()
  }
  /** One step, and wait until it is done. */
  async step(): Promise<void> {
    const before = this.trainer.done
    const control = await this.go(true)
    control.step()
    while (this.#control && (this.trainer.done === before || this.record.status === 'running')) await this.#change()
  }
  /** End it, keeping what is trained. */
  async stop(): Promise<void> {
    if (!this.#control) {
      if (this.record.status === 'paused') {
        this.record.status = 'stopped'
        await this.restore()
        await this.#say('stopped')
      }
      return
    }
    this.#control.stop()
    await this.#loop
  }
  /** Store a checkpoint, and wait until it is there. Nothing where the loop does not run: all is stored. */
  async checkpoint(): Promise<void> {
    const before = this.record.checkpointStep
    const at = this.trainer.done
    this.#control?.checkpoint()
    while (this.#control && this.record.checkpointStep === before && before < at) await this.#change()
  }

  /** The GPU went away: what is stored stays. */
  async lose(error: WireError): Promise<void> {
    if (this.record.status === 'running') await this.#fail(error)
    this.#abort.abort()
    await this.#loop
  }

  /** Free everything. Where the loop still runs it ends without another checkpoint: pause first. Call with the lock held. */
  close(): void {
    this.#closed = true
    this.#abort.abort()
    this.trainer.destroy()
    this.parts.release()
  }

  async #fail(error: WireError): Promise<void> {
    if (this.#closed || this.record.status === 'failed') return
    this.record.error = error
    this.parts.post({ type: 'error', id: null, runId: this.runId, error })
    await this.#flush().catch(() => undefined)
    await this.#say('failed').catch(() => undefined)
  }

  async #say(status: RunStatus): Promise<void> {
    this.record.status = status
    const { runId } = this
    const { step, checkpointStep } = this.record
    this.parts.post({ type: 'run-status', runId, status, step, checkpointStep, allocatedBytes: this.parts.gpu.allocatedBytes })
    this.#wake()
    if (!this.#closed) await this.parts.store.writeRecord(this.record)
  }
  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  #add(m: Measured): void {
    this.#unsaved.push(m)
  }
  async #flush(): Promise<void> {
    const lines = this.#unsaved.splice(0)
    this.#savedAt = Date.now()
    await this.parts.store.append(this.runId, lines)
  }
}

const append = <T>(list: readonly T[], item: T): readonly T[] => {
  ;(list as T[]).push(item)
  return list
}
