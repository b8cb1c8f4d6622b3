/** @file What the engine's commands share: the device, the model, and what lies on the GPU. Given from outside, so that all of it runs in tests too. */
import { GpuError, ModelError, RunError } from '../../errors.ts'
import type { Gpu, GpuTraits } from '../../gpu/device.ts'
import type { AdapterFiles } from '../../io/adapter_files.ts'
import type { DeviceNotes } from '../../train/device_profile.ts'
import type { LoadedAdapter, TunableLayout } from '../../train/tunable.ts'
import type { EngineEvent } from '../protocol.ts'
import type { HeldRun } from './held_run.ts'
import { Lock } from './lock.ts'
import type { LoadedModel, ModelSources, Progress } from './model.ts'
import { memoryBudget } from '../../train/policy.ts'
import type { Hooks, Room } from './room.ts'
import { RunStore } from './run_store.ts'

export interface EngineDeps extends ModelSources {
  readonly requestGpu: () => Promise<Gpu>
  readonly post: (event: EngineEvent) => void
  /** Take a run for this engine alone; null where another tab has it. By default nobody else is there. */
  readonly claim?: (runId: string) => Promise<(() => void) | null>
  /** Name and version of the browser: then the device is checked, and tuned, before it is used. */
  readonly browser?: string
  /** Bytes a run may plan for, by default `memoryBudget`. */
  readonly budget?: (traits: GpuTraits) => number
}
/** Of one request. */
export interface Request {
  readonly id: number
  readonly signal: AbortSignal
  readonly progress: Progress
}
/** What a request tells, and is told, while weights are loaded for it. */
export const hooksOf = (r: Request): Hooks => ({
  signal: r.signal,
  onProgress: (label, done, total) => r.progress(label, done, total, 'bytes'),
})
/** An adapter that was loaded to be tried or gone on from; on the GPU once it is used. */
export interface OpenAdapter {
  readonly files: AdapterFiles
  readonly loaded: LoadedAdapter
  readonly name: string
  layout: TunableLayout | null
}

export class Shared {
  readonly lock = new Lock()
  readonly runs: RunStore
  gpu: Gpu | null = null
  device: DeviceNotes = { notes: [], tuned: null, stored: false }
  /** Why there is no device any more. */
  lost: GpuError | null = null
  model: LoadedModel | null = null
  room: Room | null = null
  run: HeldRun | null = null
  adapter: OpenAdapter | null = null
  /** Whether the adapter came after the run: what "tuned" means where nobody says. */
  adapterIsNewer = false

  constructor(readonly deps: EngineDeps) {
    this.runs = new RunStore(deps.store)
  }

  /** Throws GpuError where there is no device. */
  needGpu(): Gpu {
    if (this.lost) throw this.lost
    if (this.gpu) return this.gpu
    throw new GpuError('the GPU is not ready', { why: 'It was not asked for, or it was refused', fix: 'Reload the page' })
  }
  /** Throws where there is no model, or no device. */
  need(): { gpu: Gpu; model: LoadedModel; room: Room } {
    const gpu = this.needGpu()
    if (this.model && this.room) return { gpu, model: this.model, room: this.room }
    throw new ModelError('no model is loaded', { fix: 'Choose a model first' })
  }
  get budget(): number {
    const { traits } = this.needGpu()
    return this.deps.budget?.(traits) ?? memoryBudget(traits)
  }

  /** Take a run for this tab; call what it returns to let it go. Throws RunError where another tab has it. */
  async claim(runId: string): Promise<() => void> {
    const release = this.deps.claim ? await this.deps.claim(runId) : () => undefined
    if (release) return release
    throw new RunError('another tab of the studio holds this run', {
      where: runId,
      why: 'Two at once would overwrite what the other stores',
      fix: 'Go on in that tab, or close it first',
    })
  }

  /** Free the run that is held. With the lock held; a loop that works must have been paused. */
  dropRun(): void {
    const run = this.run
    this.run = null
    run?.close()
    if (run) this.room?.release(run.parts.layout)
  }
  /** Free the adapter's part of the GPU; it comes back when it is used. */
  dropAdapterLayout(): void {
    if (this.adapter?.layout) this.room?.release(this.adapter.layout)
    if (this.adapter) this.adapter.layout = null
  }
  /** Free all that lies on the GPU. */
  clear(): void {
    this.dropRun()
    this.dropAdapterLayout()
    this.adapter = null
    this.room?.destroy()
    this.room = null
  }
}
