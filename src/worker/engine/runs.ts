/** @file Commands on runs: start, restore, and what is stored. One run is held at a time; another one pauses it and takes its place. */
import { hashRows } from '../../data/stats.ts'
import { rowCount } from '../../data/types.ts'
import { AdapterError, EtudeError, ModelError, RunError } from '../../errors.ts'
import { parseOptions } from '../../options.ts'
import type { AnyMethod, Json } from '../../peft/method.ts'
import type { RunRecords } from '../../train/run.ts'
import { type FixedPolicy, RUN_OPTIONS, type RunConfig } from '../../train/run_config.ts'
import { findMethod, type LoadedAdapter, openAdapter, TunableLayout } from '../../train/tunable.ts'
import type { EngineCommand, RunSummary } from '../protocol.ts'
import { checkRows, type RunData } from './checkpoint.ts'
import { HeldRun } from './held_run.ts'
import { planOf } from './plans.ts'
import type { RunRecord } from './run_store.ts'
import { hooksOf, type Request, type Shared } from './shared.ts'
import { watchedBy, watchedTemplate } from './watched.ts'
import { GREEDY, write } from './writing.ts'

type Start = Extract<EngineCommand, { type: 'start' }>

const EMPTY = (): RunRecords => ({ steps: [], evals: [], samples: [] })

/** Pause the run that is held, so that another command may take its place. */
export async function park(s: Shared): Promise<void> {
  if (s.run?.active) await s.run.pause()
}

/** What a new run starts from: the method's own start, or the loaded adapter, read again with the options that its file cannot hold. */
async function startOf(
  s: Shared,
  config: RunConfig,
  fromAdapter: boolean,
): Promise<{ method: AnyMethod; options: Json; loaded: LoadedAdapter | null }> {
  const method = findMethod(config.method)
  if (!fromAdapter) return { method, options: parseOptions(method.options, config.options), loaded: null }
  const { model } = s.need()
  if (!s.adapter) throw new AdapterError('no adapter is loaded to go on from', { fix: 'Load one, or start from scratch' })
  if (s.adapter.loaded.method.id !== method.id)
    throw new AdapterError(`the loaded adapter was made with ${s.adapter.loaded.method.title}`, {
      where: s.adapter.name,
      why: `The run is set to ${method.title}`,
      fix: 'Choose its method, or start from scratch',
    })
  // Where it sits and how it was initialised are the adapter's own.
  const { target_modules: _t, init_lora_weights: _i, ...options } = config.options
  const loaded = await openAdapter(model.bundle, s.adapter.files, options)
  return { method, options: parseOptions(method.options, loaded.options), loaded }
}

/** Start a run. Nothing of it is left where it cannot start, or is cancelled before it does. */
export async function start(s: Shared, c: Start, r: Request): Promise<void> {
  const { model } = s.need()
  const run = parseOptions(RUN_OPTIONS, c.config.run)
  checkRows(c.train, model.bundle.config.vocabSize, 'training data')
  if (c.held) checkRows(c.held, model.bundle.config.vocabSize, 'held-out data')
  const data: RunData = { train: c.train, held: c.held && rowCount(c.held) > 0 ? c.held : null }
  const from = await startOf(s, c.config, c.fromAdapter)
  const { refusal, policy } = planOf(s, { ...c.config, options: from.options }, c.extras)
  if (refusal) throw new Refusal(refusal.what, refusal)
  const record: RunRecord = {
    version: 1,
    runId: c.runId,
    name: c.name,
    createdAt: new Date().toISOString(),
    model: { name: model.info.name, architecture: model.info.architecture, fingerprint: model.info.fingerprint },
    data: { name: c.dataName, sha256: await hashRows(data.held ? [data.train, data.held] : [data.train]), rows: rowCount(c.train) },
    config: { method: c.config.method, options: from.options, run },
    extras: c.extras,
    targets: from.loaded && from.method.slot === 'linear' ? from.loaded.targets : null,
    status: 'running',
    step: 0,
    checkpointStep: 0,
    error: null,
  }
  await place(s, r, async () => {
    const held = await hold(s, record, data, policy, from.loaded, EMPTY(), r)
    try {
      r.signal.throwIfAborted()
      await s.runs.create(record, data)
      if (from.loaded) await held.storeStart()
      r.signal.throwIfAborted()
      s.run = held
      s.adapterIsNewer = false
      await held.go(c.paused)
    } catch (e) {
      s.run = null
      held.close()
      s.room?.release(held.parts.layout)
      await s.runs.remove(record.runId).catch(() => undefined)
      throw e
    }
  })
}

/** Let `body` put a run on the GPU, in the place of the one that is held. */
async function place<T>(s: Shared, r: Request, body: () => Promise<T>): Promise<T> {
  await park(s)
  return s.lock.run(async () => {
    r.signal.throwIfAborted()
    const { room } = s.need()
    s.dropRun()
    s.dropAdapterLayout()
    room.freeGenerators()
    return room.cancellable(r.signal, body)
  })
}

/** A plan's refusal, thrown. */
class Refusal extends EtudeError {
  override readonly name = 'GpuError'
}

/** Make the layout, the samples' generator and the trainer of a run. With the lock held. */
async function hold(
  s: Shared,
  record: RunRecord,
  data: RunData,
  policy: FixedPolicy,
  loaded: LoadedAdapter | null,
  measured: RunRecords,
  r: Request,
): Promise<HeldRun> {
  const { gpu, model, room } = s.need()
  const { config } = record
  const { base, seed } = config.run
  const wanted = {
    method: findMethod(config.method),
    options: config.options,
    base,
    seed,
    optim: config.run.optim,
    trainable: true,
    loaded,
  }
  const release = await s.claim(record.runId)
  let layout: TunableLayout | null = null
  try {
    layout = await room.layout(wanted, hooksOf(r))
    r.signal.throwIfAborted()
    r.progress('Making buffers and kernels', 0, 0, 'steps')
    // What samples are written with is made now, as planned: a GPU without room for it says so before the first step.
    const length = watchedBy(model, record.extras)(layout)
    if (length > 0) await room.generator(layout, length, false)
    r.signal.throwIfAborted()
    return await HeldRun.create(
      record,
      {
        gpu,
        layout,
        data,
        release,
        lock: s.lock,
        store: s.runs,
        post: s.deps.post,
        policy,
        sample:
          model.tokenizer &&
          (async (t, prompt, maxTokens) => {
            const template = watchedTemplate(model, record.extras)
            return (await write(model, room, t, prompt, { template, sampling: { ...GREEDY, maxTokens }, strength: null })).text
          }),
      },
      measured,
    )
  } catch (e) {
    if (layout) room.release(layout)
    release()
    throw e
  }
}

/** Bring a stored run back: held, as its newest checkpoint left it, waiting. Throws where the model is another one. */
export async function restore(s: Shared, runId: string, r: Request): Promise<RunSummary> {
  const { model } = s.need()
  if (s.run?.runId === runId) return s.run.summary
  const record = await s.runs.readRecord(runId)
  if (record.model.fingerprint !== model.info.fingerprint)
    throw new ModelError(`this run belongs to ${record.model.name}, and ${model.info.name} is loaded`, {
      where: record.name,
      why: `What it trained fits the weights it began with (${record.model.fingerprint.slice(0, 12)}…, here ${model.info.fingerprint.slice(0, 12)}…) and no others`,
      fix: `Load ${record.model.name} again, then go on`,
    })
  if (record.status === 'running') record.status = 'paused'
  const data = await s.runs.readData(runId)
  checkRows(data.train, model.bundle.config.vocabSize, 'training data')
  const { policy } = planOf(s, record.config, record.extras)
  return place(s, r, async () => {
    const measured = await s.runs.readJournal(runId)
    record.step = Math.max(record.step, measured.steps.at(-1)?.step ?? 0)
    const held = await hold(s, record, data, policy, placed(s, record), measured, r)
    try {
      await held.restore()
      r.signal.throwIfAborted()
    } catch (e) {
      held.close()
      s.room?.release(held.parts.layout)
      throw e
    }
    s.run = held
    s.adapterIsNewer = false
    return held.summary
  })
}

/** A stand-in for the adapter that a run went on from: its places, with zeros until the checkpoint is read. */
function placed(s: Shared, record: RunRecord): LoadedAdapter | null {
  const { targets, config } = record
  const method = findMethod(config.method)
  if (targets === null || method.slot !== 'linear') return null
  const { gpu, model } = s.need()
  const values = new Map<string, { shape: readonly number[]; data: Float32Array<ArrayBuffer> }>()
  const loaded = { method, options: config.options, targets, values, notes: [] }
  const o = { base: config.run.base, seed: 0, trainable: false, maxBindingSize: gpu.traits.maxBindingSize }
  for (const e of new TunableLayout(model.bundle, method, config.options, o, loaded).adapter!.params.entries)
    values.set(e.key, { shape: e.shape, data: new Float32Array(e.shape.reduce((a, b) => a * b, 1)) })
  return loaded
}

/** The run that is held. Throws RunError where it is another one. */
export function heldRun(s: Shared, runId: string): HeldRun {
  if (s.run?.runId === runId) return s.run
  throw new RunError('the engine does not hold this run', { where: runId, fix: 'Restore it first' })
}

/** Stored runs; what is known better of the one that is held. */
export async function listRuns(s: Shared): Promise<readonly RunSummary[]> {
  const stored = await s.runs.list()
  return stored.map((r) => (r.runId === s.run?.runId ? s.run.summary : r))
}

export async function deleteRun(s: Shared, runId: string): Promise<void> {
  if (s.run?.runId === runId) {
    await park(s)
    await s.lock.run(async () => s.dropRun())
  }
  const release = await s.claim(runId)
  try {
    await s.runs.remove(runId)
  } finally {
    release()
  }
}
