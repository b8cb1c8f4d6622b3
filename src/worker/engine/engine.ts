/** @file The engine: commands in, events out. What the worker wires to messages; runs in tests as it is. */
import { GpuError, toWire } from '../../errors.ts'
import type { Gpu } from '../../gpu/device.ts'
import type { BlobStore } from '../../io/blob_store.ts'
import { readAdapter } from '../../io/adapter_files.ts'
import { downloadedModels } from '../../io/hub.ts'
import { prepareDevice, type ProfileStore } from '../../train/device_profile.ts'
import { type Manifest, VERSION } from '../../train/export.ts'
import { openAdapter } from '../../train/tunable.ts'
import type { DeviceInfo, EngineCommand, EngineEvent, ModelInfo, ModelSpec, Replies } from '../protocol.ts'
import { makeExport } from './exporter.ts'
import { fileSet, loadModel } from './model.ts'
import { Room } from './room.ts'
import { deleteDownload } from './downloads.ts'
import { plan } from './plans.ts'
import { deleteRun, heldRun, listRuns, park, restore, start } from './runs.ts'
import { type EngineDeps, type Request, Shared } from './shared.ts'
import { generate, promptOf, tunedLayout } from './writing.ts'

/** Continued by the model before and after an export. */
const CHECK_PROMPT = 'Once upon a time'
/** Stands in for it where the model has no tokenizer. */
const CHECK_IDS = 8

export class Engine {
  readonly #s: Shared
  readonly #open = new Map<number, AbortController>()

  constructor(deps: EngineDeps) {
    this.#s = new Shared(deps)
  }

  /** Pause what runs and free everything on the GPU; the device itself stays. */
  async close(): Promise<void> {
    await park(this.#s)
    await this.#s.lock.run(async () => this.#s.clear())
    this.#unwatch()
  }

  /** Answers a command with one reply or error; progress, text and events of runs come besides. */
  handle(c: EngineCommand): void {
    const s = this.#s
    switch (c.type) {
      case 'cancel':
        this.#open.get(c.id)?.abort()
        return
      case 'init':
        this.#answer(c.id, 'init', (r) => this.#init(c.tune ?? 'auto', r))
        return
      case 'load-model':
        this.#answer(c.id, 'load-model', (r) => this.#loadModel(c.spec, r))
        return
      case 'plan':
        this.#answer(c.id, 'plan', (r) => plan(s, c, r))
        return
      case 'start':
        this.#answer(c.id, 'start', (r) => start(s, c, r).then(none))
        return
      case 'restore':
        this.#answer(c.id, 'restore', (r) => restore(s, c.runId, r))
        return
      case 'pause':
        this.#answer(c.id, c.type, () => heldRun(s, c.runId).pause().then(none))
        return
      case 'resume':
        this.#answer(c.id, c.type, async () => {
          s.need()
          await heldRun(s, c.runId).go(false)
          return null
        })
        return
      case 'step':
        this.#answer(c.id, c.type, async () => {
          s.need()
          await heldRun(s, c.runId).step()
          return null
        })
        return
      case 'stop':
        this.#answer(c.id, c.type, () => heldRun(s, c.runId).stop().then(none))
        return
      case 'checkpoint':
        this.#answer(c.id, c.type, () => heldRun(s, c.runId).checkpoint().then(none))
        return
      case 'list-runs':
        this.#answer(c.id, c.type, () => listRuns(s))
        return
      case 'delete-run':
        this.#answer(c.id, c.type, () => deleteRun(s, c.runId).then(none))
        return
      case 'generate':
        this.#answer(c.id, c.type, (r) => generate(s, c, r))
        return
      case 'load-adapter':
        this.#answer(c.id, c.type, () => this.#loadAdapter(c.files))
        return
      case 'unload-adapter':
        this.#answer(c.id, c.type, async () => {
          await s.lock.run(async () => s.dropAdapterLayout())
          s.adapter = null
          return null
        })
        return
      case 'list-downloads':
        this.#answer(c.id, c.type, () => downloadedModels(s.deps.store))
        return
      case 'delete-download':
        this.#answer(c.id, c.type, () => deleteDownload(s, c.repo).then(none))
        return
      case 'export':
        this.#answer(c.id, c.type, (r) => this.#export(c.what, c.runId, r))
        return
      default:
        c satisfies never
    }
  }

  #answer<K extends keyof Replies>(id: number, to: K, work: (r: Request) => Promise<Replies[K]>): void {
    const { post } = this.#s.deps
    const abort = new AbortController()
    this.#open.set(id, abort)
    const progress: Request['progress'] = (label, done, total, unit) => post({ type: 'progress', id, label, done, total, unit })
    void (async () => {
      try {
        const value = await work({ id, signal: abort.signal, progress })
        post({ type: 'reply', id, to, value } as EngineEvent)
      } catch (e) {
        post({ type: 'error', id, runId: null, error: toWire(e) })
      } finally {
        this.#open.delete(id)
      }
    })()
  }

  /** Ask for the GPU; again after it was lost. The model that was loaded stays. Cancelled, it goes on without measuring. */
  async #init(tune: boolean | 'auto', { signal, progress }: Request): Promise<DeviceInfo> {
    const s = this.#s
    if (!s.gpu || s.lost) {
      const gpu = await s.deps.requestGpu()
      const { browser, store } = s.deps
      if (browser !== undefined) {
        const onTuning = () => progress('Measuring this GPU', 0, 0, 'steps')
        s.device = await prepareDevice(gpu, { store: profiles(store), browser, tune, signal, onTuning })
      }
      s.gpu = gpu
      s.lost = null
      s.room = s.model && new Room(gpu, s.model.bundle)
      void gpu.lost.then((e) => this.#onLost(gpu, e))
      this.#watch(gpu)
    }
    const { traits } = s.gpu
    return {
      vendor: traits.vendor,
      architecture: traits.architecture,
      description: traits.description,
      software: traits.software,
      f16: traits.f16,
      subgroups: traits.subgroupMax > 0 ? { min: traits.subgroupMin, max: traits.subgroupMax } : null,
      matrix: traits.matrix,
      dot: traits.dot && traits.dotFaster === true,
      maxBufferSize: traits.maxBufferSize,
      maxStorageBufferBindingSize: traits.maxBindingSize,
      notes: s.device.notes,
      tuned: s.device.tuned,
    }
  }

  /** What the GPU complains about outside any check is a defect: said once. */
  #watch(gpu: Gpu): void {
    const complain = (e: GPUUncapturedErrorEvent): void => {
      this.#unwatch()
      const what = 'the GPU refused a command'
      const detail = { where: 'WebGPU', why: e.error.message, fix: 'Please report this with the name of the GPU' }
      this.#s.deps.post({ type: 'error', id: null, runId: null, error: toWire(new GpuError(what, detail)) })
    }
    gpu.device.addEventListener('uncapturederror', complain)
    this.#unwatch = () => gpu.device.removeEventListener('uncapturederror', complain)
  }
  #unwatch: () => void = () => undefined

  async #onLost(gpu: Gpu, error: GpuError): Promise<void> {
    const s = this.#s
    if (s.gpu !== gpu) return
    s.lost = error
    const wire = toWire(error)
    const { run } = s
    s.run = null
    await run?.lose(wire)
    s.deps.post({ type: 'device-lost', error: wire })
    await s.lock.run(async () => {
      run?.close()
      const { adapter } = s
      if (adapter) adapter.layout = null
      s.room?.destroy()
      s.room = null
    })
  }

  /** The model that is loaded stays until the other one is open. */
  async #loadModel(spec: ModelSpec, r: Request): Promise<ModelInfo> {
    const s = this.#s
    const { traits } = s.needGpu()
    const model = await loadModel(spec, s.deps, traits.maxBindingSize, r.progress, r.signal)
    await park(s)
    await s.lock.run(async () => {
      const gpu = s.needGpu()
      r.signal.throwIfAborted()
      s.clear()
      s.model = model
      s.room = new Room(gpu, model.bundle)
    })
    return model.info
  }

  async #loadAdapter(files: readonly File[]): Promise<Replies['load-adapter']> {
    const s = this.#s
    const { model } = s.need()
    const set = fileSet(files)
    const open = await readAdapter(set)
    const loaded = await openAdapter(model.bundle, open)
    await s.lock.run(async () => s.dropAdapterLayout())
    s.adapter = { files: open, loaded, name: [...set.keys()][0] ?? 'adapter', layout: null }
    s.adapterIsNewer = true
    const trainable = [...loaded.values.values()].reduce((n, v) => n + v.data.length, 0)
    return { method: loaded.method.id, options: loaded.options, trainable, notes: loaded.notes }
  }

  #export(what: 'adapter' | 'merged', runId: string | null, r: Request): Promise<Replies['export']> {
    const s = this.#s
    s.need()
    return s.lock.run(async () => {
      r.signal.throwIfAborted()
      const { model, room, gpu } = s.need()
      const layout = await tunedLayout(s, runId, r)
      const run = s.run?.parts.layout === layout ? s.run : null
      const state = await (layout.adapter?.params ?? layout.trained)!.read()
      const { vendor, architecture, description } = gpu.traits
      const manifest: Manifest | null = run && {
        etude: VERSION,
        model: run.record.model,
        data: run.record.data,
        config: run.record.config,
        device: description || `${vendor} ${architecture}`,
        steps: run.measured.steps,
        evals: run.measured.evals,
      }
      const ids = model.tokenizer
        ? promptOf(model, CHECK_PROMPT, null).ids
        : Array.from({ length: CHECK_IDS }, (_, i) => i % model.info.vocabSize)
      const prompt = { text: model.tokenizer ? CHECK_PROMPT : `token ids ${ids.join(', ')}`, ids }
      const name = run?.record.name ?? s.adapter?.name.replace(/\.zip$/, '') ?? 'adapter'
      return makeExport({
        room,
        layout,
        state,
        seed: layout.o.seed,
        what,
        name,
        manifest,
        prompt,
        onProgress: r.progress,
        signal: r.signal,
      })
    })
  }
}
const none = (): null => null

/** What is known of devices, beside the runs. */
const profiles = (store: BlobStore): ProfileStore => ({
  read: async (name) => {
    const file = await store.read(`device/${name}`)
    return file && new TextDecoder().decode(await file.read(0, file.size))
  },
  write: (name, text) => store.write(`device/${name}`, new TextEncoder().encode(text)),
})
