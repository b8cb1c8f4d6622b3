/** @file The state after an event. Pure: every path is tested without a worker or a page. */
import type { EvalRecord, SampleRecord } from '../../train/run_config.ts'
import type { RunSummary } from '../../worker/protocol.ts'
import type { BroadcastEvent } from '../../worker/client.ts'
import {
  INITIAL,
  type Choices,
  type DataState,
  type DownloadsState,
  type EngineState,
  type ExportState,
  type ModelState,
  type PlanState,
  type Progress,
  type RunView,
  type SideState,
  type StudioState,
  type TryState,
} from './state.ts'

export type Side = 'base' | 'tuned'
/** What happens on the page or comes back from a request. Slices are patched; what follows from them is decided here. */
export type PageEvent =
  | { readonly type: 'choose'; readonly patch: Partial<Choices> }
  | { readonly type: 'engine'; readonly engine: EngineState }
  | { readonly type: 'model'; readonly patch: Partial<ModelState> }
  | { readonly type: 'data'; readonly patch: Partial<DataState> }
  | { readonly type: 'plan'; readonly patch: Partial<PlanState> }
  | { readonly type: 'invalid'; readonly key: string; readonly why: string | null }
  | { readonly type: 'busy'; readonly busy: boolean }
  | { readonly type: 'work'; readonly progress: Progress | null }
  | { readonly type: 'downloads'; readonly patch: Partial<DownloadsState> }
  | { readonly type: 'notice'; readonly text: string | null }
  | { readonly type: 'run-error'; readonly error: StudioState['runError'] }
  | { readonly type: 'run-started'; readonly run: RunView }
  | { readonly type: 'runs-listed'; readonly runs: readonly RunSummary[] }
  | { readonly type: 'run-restored'; readonly run: RunSummary }
  /** The engine may hold none any more. */
  | { readonly type: 'runs-at-rest' }
  | { readonly type: 'run-shown'; readonly runId: string | null }
  | { readonly type: 'run-deleted'; readonly runId: string }
  | { readonly type: 'side'; readonly side: Side; readonly patch: Partial<SideState> }
  | { readonly type: 'side-token'; readonly side: Side; readonly text: string }
  | { readonly type: 'trying'; readonly patch: Partial<Omit<TryState, 'base' | 'tuned'>> }
  | { readonly type: 'exporting'; readonly patch: Partial<ExportState> }

export type StudioEvent = PageEvent | BroadcastEvent

export function reduce(s: StudioState, e: StudioEvent): StudioState {
  switch (e.type) {
    case 'choose':
      return { ...s, choices: { ...s.choices, ...e.patch } }
    case 'engine':
      return { ...s, engine: e.engine }
    case 'model':
      return { ...s, ...(e.patch.info ? withoutOld(s, e.patch.info.fingerprint) : {}), model: { ...s.model, ...e.patch } }
    case 'data':
      return { ...s, data: { ...s.data, ...e.patch } }
    case 'plan':
      return { ...s, plan: { ...s.plan, ...e.patch } }
    case 'invalid':
      return { ...s, invalid: withKey(s.invalid, e.key, e.why) }
    case 'busy':
      return { ...s, busy: e.busy, work: null }
    case 'work':
      return { ...s, work: e.progress }
    case 'downloads':
      return { ...s, downloads: { ...s.downloads, ...e.patch } }
    case 'notice':
      return { ...s, notice: e.text }
    case 'run-error':
      return { ...s, runError: e.error }
    case 'run-started':
      return { ...s, runs: [e.run, ...s.runs.map(atRest)], current: e.run.runId, runError: null }
    case 'runs-listed':
      return { ...s, ...listed(s, e.runs) }
    case 'run-restored':
      return {
        ...s,
        runs: s.runs.map((r) => (r.runId === e.run.runId ? { ...viewOf(e.run), live: true } : atRest(r))),
        current: e.run.runId,
        runError: null,
      }
    case 'runs-at-rest':
      return { ...s, runs: s.runs.map(atRest) }
    case 'run-shown':
      return { ...s, current: e.runId, runError: null }
    case 'run-deleted':
      return { ...s, runs: s.runs.filter((r) => r.runId !== e.runId), current: s.current === e.runId ? null : s.current }
    case 'side':
      return side(s, e.side, e.patch)
    case 'side-token':
      return side(s, e.side, { status: 'streaming', text: s.trying[e.side].text + e.text })
    case 'trying':
      return { ...s, trying: { ...s.trying, ...e.patch } }
    case 'exporting':
      return { ...s, exporting: { ...s.exporting, ...e.patch } }
    case 'run-step':
      // the point itself went to the point store; only a new highest step is state
      return s
    case 'run-status':
      return run(s, e.runId, () => ({
        status: e.status,
        step: e.step,
        checkpointStep: e.checkpointStep,
        allocatedBytes: e.allocatedBytes,
        live: true,
      }))
    case 'run-eval':
      return run(s, e.runId, (r) => ({ evals: after(r.evals, e.record) }))
    case 'run-sample':
      return run(s, e.runId, (r) => ({ samples: afterSample(r.samples, e.record) }))
    case 'error':
      return e.runId === null ? { ...s, runError: e.error } : run(s, e.runId, () => ({ status: 'failed', error: e.error }))
    case 'device-lost':
      return {
        ...s,
        engine: { status: 'lost', error: e.error, device: 'device' in s.engine ? s.engine.device : null },
        runs: s.runs.map((r) =>
          r.live && r.status === 'running' ? { ...r, status: 'failed', error: e.error, live: false } : { ...r, live: false },
        ),
      }
    default:
      return e satisfies never
  }
}

function run(s: StudioState, runId: string, patch: (r: RunView) => Partial<RunView>): StudioState {
  return s.runs.some((r) => r.runId === runId) ? { ...s, runs: s.runs.map((r) => (r.runId === runId ? { ...r, ...patch(r) } : r)) } : s
}

const side = (s: StudioState, which: Side, patch: Partial<SideState>): StudioState => ({
  ...s,
  trying: { ...s.trying, [which]: { ...s.trying[which], ...patch } },
})

/** The engine lets go of everything when a model is loaded, also when it is the same again: its run rests, its adapter and answers are gone. */
const withoutOld = (s: StudioState, fingerprint: string): Partial<StudioState> => {
  if (s.model.info === null) return {}
  const gone = { runs: s.runs.map(atRest), trying: INITIAL.trying, exporting: INITIAL.exporting }
  return s.model.info.fingerprint === fingerprint ? gone : { ...gone, plan: { ...INITIAL.plan, measures: s.plan.measures } }
}

/** A run the engine no longer holds, because another took its place. */
const atRest = (r: RunView): RunView => (r.live ? { ...r, live: false, status: r.status === 'running' ? 'paused' : r.status } : r)

const withKey = (map: StudioState['invalid'], key: string, why: string | null): StudioState['invalid'] => {
  const rest = Object.fromEntries(Object.entries(map).filter(([k]) => k !== key))
  return why === null ? rest : { ...rest, [key]: why }
}

/** Evaluations in order of step; one of the same or an earlier step starts over from there. */
const after = (records: readonly EvalRecord[], next: EvalRecord): readonly EvalRecord[] => [
  ...records.filter((r) => r.step < next.step),
  next,
]
const afterSample = (records: readonly SampleRecord[], next: SampleRecord): readonly SampleRecord[] => [
  ...records.filter((r) => r.step < next.step || (r.step === next.step && r.prompt !== next.prompt)),
  next,
]

/** A stored run as shown. One that was running when the page went away is paused: it goes on from its checkpoint. */
export const viewOf = (r: RunSummary): RunView => ({
  runId: r.runId,
  name: r.name,
  createdAt: r.createdAt,
  modelName: r.modelName,
  modelFingerprint: r.modelFingerprint,
  dataName: r.dataName,
  config: r.config,
  extras: r.extras,
  status: r.status === 'running' ? 'paused' : r.status,
  step: r.step,
  checkpointStep: r.checkpointStep,
  allocatedBytes: 0,
  evals: r.evals,
  samples: r.samples,
  error: r.error,
  live: false,
})

/** The stored runs, keeping what is known better of the live one; shows the newest run that waits to be resumed where none is shown. */
function listed(s: StudioState, stored: readonly RunSummary[]): Pick<StudioState, 'runs' | 'current'> {
  const live = s.runs.filter((r) => r.live)
  const ids = new Set(live.map((r) => r.runId))
  const runs = [...live, ...stored.filter((r) => !ids.has(r.runId)).map(viewOf)].sort((a, b) => b.createdAt.localeCompare(a.createdAt))
  const newest = runs.find((r) => r.status === 'paused')
  const current = s.current !== null && runs.some((r) => r.runId === s.current) ? s.current : (newest?.runId ?? null)
  return { runs, current }
}

/** The evaluation with the lowest loss; the earliest of equals. */
export const bestEval = (evals: readonly EvalRecord[]): EvalRecord | null =>
  evals.reduce<EvalRecord | null>((best, e) => (best === null || e.loss < best.loss ? e : best), null)
