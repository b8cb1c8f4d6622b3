/** @file Runs: start, pause, step, resume, stop, and the list of what is stored. Events of runs come through `listenToEngine`. */
import { wireOf } from '../wire.ts'
import { rowCount, type TokenRows } from '../../data/types.ts'
import type { RequestHooks } from '../../worker/client.ts'
import { data, engine } from '../services.ts'
import { addPoint, dropPoints, setPoints } from '../store/points.ts'
import { configOf, extrasOf, obstacle } from '../store/select.ts'
import type { RunView, StudioState } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'
import { busily, isAbort, loadingWeights } from './work.ts'

/** Route events of the engine: points to the point store, the rest through the reducer. Returns how to stop. */
export function listenToEngine(): () => void {
  return engine().subscribe((event) => {
    if (event.type === 'run-step') addPoint(event.runId, event.record)
    else dispatch(event)
  })
}

const buffers = (rows: TokenRows): Transferable[] => [rows.ids.buffer, rows.labels.buffer, rows.offsets.buffer]

/** A name no other run has: data, method, a number. */
export function freshName(s: Pick<StudioState, 'runs' | 'choices'>, dataName: string): string {
  const chosen = s.choices.runName?.trim()
  const stem = chosen ? chosen : `${dataName.replace(/(\.[a-z0-9]+)+( .*)?$/i, '')}-${s.choices.method}`
  const taken = new Set(s.runs.map((r) => r.name))
  if (chosen && !taken.has(chosen)) return chosen
  for (let n = 1; ; n++) if (!taken.has(`${stem}-${n}`)) return `${stem}-${n}`
}

/** Start the run the choices make. `paused`: hold before the first step, for stepping by hand. */
export const start = (paused = false): Promise<void> =>
  busily(async () => {
    const s = store.getState()
    const config = configOf(s)
    const { info } = s.model
    const { summary } = s.data
    if (obstacle(s) || !config || !info || !summary) return
    const { train, held } = await data().rows()
    const extras = extrasOf(s)
    const run: RunView = {
      runId: crypto.randomUUID(),
      name: freshName(s, summary.name),
      createdAt: new Date().toISOString(),
      modelName: info.name,
      modelFingerprint: info.fingerprint,
      dataName: summary.name,
      config,
      extras,
      status: paused ? 'paused' : 'running',
      step: 0,
      checkpointStep: 0,
      allocatedBytes: 0,
      evals: [],
      samples: [],
      error: null,
      live: true,
    }
    setPoints(run.runId, [])
    dispatch({ type: 'run-started', run })
    const eval_ = held && rowCount(held) > 0 ? held : null
    const fromAdapter = s.trying.startFromAdapter && s.trying.source?.kind === 'adapter'
    const fields = { runId: run.runId, name: run.name, config, extras, dataName: summary.name, train, held: eval_, paused, fromAdapter }
    const transfer = [...buffers(train), ...(eval_ ? buffers(eval_) : [])]
    try {
      await loadingWeights('Preparing the run', (hooks) => engine().request('start', fields, { ...hooks, transfer }))
      // what is tried next is this run, also where it went on from an adapter
      dispatch({ type: 'trying', patch: { source: null, startFromAdapter: false } })
    } catch (e) {
      if (!isAbort(e)) {
        dispatch({ type: 'error', id: null, runId: run.runId, error: wireOf(e) })
        return
      }
      // called off: as if it had not been asked for
      dropPoints(run.runId)
      dispatch({ type: 'run-deleted', runId: run.runId })
    }
  })

const tell = (type: 'pause' | 'stop' | 'checkpoint', runId: string): Promise<void> =>
  busily(async () => {
    await engine().request(type, { runId })
  })
export const pause = (runId: string): Promise<void> => tell('pause', runId)
export const stop = (runId: string): Promise<void> =>
  busily(async () => {
    await brought(runId)
    await engine().request('stop', { runId })
  })
export const resume = (runId: string): Promise<void> =>
  busily(async () => {
    await brought(runId)
    await engine().request('resume', { runId })
  })
export const stepOnce = (runId: string): Promise<void> =>
  busily(async () => {
    await brought(runId)
    await engine().request('step', { runId })
  })

/** See to it that the engine holds the run. Throws what the engine says: another model is loaded, a file is gone, it was called off. */
export async function held(runId: string, hooks: RequestHooks): Promise<void> {
  const run = store.getState().runs.find((r) => r.runId === runId)
  if (!run || run.live) return
  try {
    const summary = await engine().request('restore', { runId }, hooks)
    setPoints(runId, summary.steps)
    dispatch({ type: 'run-restored', run: summary })
  } catch (e) {
    // another one may have made room for it
    dispatch({ type: 'runs-at-rest' })
    throw e
  }
}
const brought = (runId: string): Promise<void> => loadingWeights('Bringing the run back', (hooks) => held(runId, hooks))

/** Read what is stored. Only the points of runs the engine does not hold are replaced. */
export async function listRuns(): Promise<void> {
  try {
    const runs = await engine().request('list-runs', {})
    const live = new Set(
      store
        .getState()
        .runs.filter((r) => r.live)
        .map((r) => r.runId),
    )
    for (const r of runs) if (!live.has(r.runId)) setPoints(r.runId, r.steps)
    dispatch({ type: 'runs-listed', runs })
  } catch (e) {
    dispatch({ type: 'run-error', error: wireOf(e) })
  }
}

export const deleteRun = (runId: string): Promise<void> =>
  busily(async () => {
    await engine().request('delete-run', { runId })
    dropPoints(runId)
    dispatch({ type: 'run-deleted', runId })
  })

/** Store a checkpoint of what is live now: the page may not come back. Quiet: a later one will do where this fails. */
export function checkpointNow(): void {
  const run = store.getState().runs.find((r) => r.live && r.status === 'running')
  if (run)
    void engine()
      .request('checkpoint', { runId: run.runId })
      .catch(() => undefined)
}
