/** @file The playground and the export: generate with the base and the tuned model, load an adapter, make a checked zip. */
import { wireOf } from '../wire.ts'
import { engine } from '../services.ts'
import { METHODS, type MethodDeclaration } from '../methods.ts'
import type { Side } from '../store/reduce.ts'
import { IDLE_SIDE, type RunView, type StudioState, type Tuned } from '../store/state.ts'
import { templateOf } from '../store/select.ts'
import { dispatch, store } from '../store/store.ts'
import { held } from './run.ts'
import { isAbort, telling } from './work.ts'

let generating: AbortController | null = null
let packing: AbortController | null = null
let rescale: ReturnType<typeof setTimeout> | undefined
/** Pause after the last move of the strength slider before the tuned side is generated again, in ms. */
const SETTLE = 250

/** Runs that have something to try: held by the engine past step 0, or with a checkpoint. */
export const triable = (s: StudioState): readonly RunView[] => s.runs.filter((r) => r.checkpointStep > 0 || (r.live && r.step > 0))

/** What the tuned side uses: what was chosen, else the live run, else the newest with a checkpoint. */
export function sourceOf(s: StudioState): Tuned | null {
  const chosen = s.trying.source
  if (chosen?.kind === 'adapter') return chosen
  const runs = triable(s)
  const run = (chosen ? runs.find((r) => r.runId === chosen.runId) : undefined) ?? runs.find((r) => r.live) ?? runs[0]
  return run ? { kind: 'run', runId: run.runId } : null
}

/** The method of what is tuned, where there is something and it is registered. */
export function methodOfSource(s: StudioState): MethodDeclaration | null {
  const source = sourceOf(s)
  const id = source?.kind === 'adapter' ? source.method : s.runs.find((r) => r.runId === source?.runId)?.config.method
  return METHODS.get(id ?? '') ?? null
}

/** The strength in force: between off and on only where the method has that. */
export function scaleInUse(s: StudioState): number {
  const slot = methodOfSource(s)?.slot ?? 'linear'
  return slot === 'linear' ? s.choices.scale : Math.min(1, Math.round(s.choices.scale))
}

/** The chat template that prompts are written with: of what is tuned, the one its rows had; else the data step's. Null: there is none. */
export function templateInUse(s: StudioState): string | null {
  const source = sourceOf(s)
  const run = source?.kind === 'run' ? s.runs.find((r) => r.runId === source.runId) : undefined
  return run?.extras.sampleTemplate ?? templateOf(s)
}

export async function generateBoth(): Promise<void> {
  await generate(['base', 'tuned'])
}

/** Generate one side after the other: there is one GPU. Without something tuned only the base answers. */
async function generate(sides: readonly Side[]): Promise<void> {
  generating?.abort()
  const abort = new AbortController()
  generating = abort
  const s = store.getState()
  const { prompt, chat, sampling } = s.choices
  const scale = scaleInUse(s)
  const text = promptInUse(s)
  dispatch({ type: 'trying', patch: { work: null } })
  if (!text || !s.model.info) return
  if (prompt === null) dispatch({ type: 'choose', patch: { prompt: text } })
  const source = sourceOf(s)
  const todo = sides.filter((side) => side === 'base' || source !== null)
  for (const side of todo) dispatch({ type: 'side', side, patch: { ...IDLE_SIDE, status: 'waiting' } })
  const told = telling((work) => {
    if (generating === abort && !abort.signal.aborted) dispatch({ type: 'trying', patch: { work } })
  })
  const hooks = { ...told, signal: abort.signal }
  for (const side of todo) {
    // superseded or stopped: a newer call owns its sides, and stopping put them to rest
    if (abort.signal.aborted) return
    try {
      if (side === 'tuned' && source?.kind === 'run') await held(source.runId, hooks)
      dispatch({ type: 'side', side, patch: { text: '', scale } })
      const result = await engine().request(
        'generate',
        {
          prompt: text,
          template: chat ? templateInUse(s) : null,
          which: side,
          runId: source?.kind === 'run' ? source.runId : null,
          scale,
          sampling,
        },
        {
          ...hooks,
          onToken: (piece) => {
            if (generating !== abort) return
            dispatch({ type: 'trying', patch: { work: null } })
            dispatch({ type: 'side-token', side, text: piece })
          },
        },
      )
      if (generating !== abort) return
      // stopped before its first token: as if it had not been asked
      const begun = result.stopped !== 'cancelled' || result.tokens > 0
      dispatch({ type: 'side', side, patch: begun ? { status: 'done', text: result.text, result } : IDLE_SIDE })
    } catch (e) {
      if (generating !== abort) return
      dispatch({ type: 'side', side, patch: isAbort(e) ? IDLE_SIDE : { status: 'failed', error: wireOf(e) } })
    } finally {
      if (generating === abort) dispatch({ type: 'trying', patch: { work: null } })
    }
  }
  if (generating === abort) generating = null
}

export const promptInUse = (s: StudioState): string => s.choices.prompt ?? s.choices.samplePrompts?.[0] ?? s.data.prompts[0] ?? ''

export function stopGenerating(): void {
  generating?.abort()
  for (const side of ['base', 'tuned'] as const)
    if (store.getState().trying[side].status === 'waiting') dispatch({ type: 'side', side, patch: { status: 'idle' } })
}

/** Change the adapter's strength; what the tuned side says follows as soon as the slider rests. */
export function setScale(scale: number): void {
  dispatch({ type: 'choose', patch: { scale } })
  clearTimeout(rescale)
  if (store.getState().trying.tuned.status === 'idle') return
  rescale = setTimeout(() => {
    void generate(['tuned'])
  }, SETTLE)
}

export const chooseSource = (source: Tuned | null): void => {
  dispatch({ type: 'trying', patch: { source } })
  dispatch({ type: 'side', side: 'tuned', patch: IDLE_SIDE })
  dispatch({ type: 'exporting', patch: { status: 'idle', result: null, error: null } })
}

/** Load an adapter zip or folder. Its method and options become the choice, so that a run can go on from it. */
export async function loadAdapter(files: readonly File[]): Promise<void> {
  dispatch({ type: 'trying', patch: { loading: true, error: null } })
  try {
    const adapter = await engine().request('load-adapter', { files })
    // a zip by its name, a folder by its own
    const path = (files.find((f) => f.name.endsWith('.zip')) ?? files[0])?.name ?? ''
    const name = path.endsWith('.zip') || path.includes('/') ? path.split('/')[0] : 'adapter'
    chooseSource({ kind: 'adapter', name: name ?? 'adapter', ...adapter })
    const { choices } = store.getState()
    if (METHODS.has(adapter.method))
      dispatch({ type: 'choose', patch: { method: adapter.method, options: { ...choices.options, [adapter.method]: adapter.options } } })
    dispatch({ type: 'trying', patch: { loading: false, startFromAdapter: true } })
  } catch (e) {
    dispatch({ type: 'trying', patch: { loading: false, error: wireOf(e) } })
  }
}

export async function unloadAdapter(): Promise<void> {
  try {
    await engine().request('unload-adapter', {})
    chooseSource(null)
    dispatch({ type: 'trying', patch: { startFromAdapter: false, error: null } })
  } catch (e) {
    dispatch({ type: 'trying', patch: { error: wireOf(e) } })
  }
}

/** Whether the next run goes on from the loaded adapter; its method comes with it. */
export function startFromAdapter(yes: boolean): void {
  const { source } = store.getState().trying
  dispatch({ type: 'trying', patch: { startFromAdapter: yes } })
  if (yes && source?.kind === 'adapter' && METHODS.has(source.method)) dispatch({ type: 'choose', patch: { method: source.method } })
}

/** Make the zip. The engine loads it back and compares before it answers; only then is a download offered. */
export async function makeExport(what: 'adapter' | 'merged'): Promise<void> {
  const before = store.getState()
  const source = sourceOf(before)
  if (!source || before.exporting.status === 'working') return
  if (before.exporting.result) URL.revokeObjectURL(before.exporting.result.url)
  dispatch({ type: 'exporting', patch: { status: 'working', what, progress: null, result: null, error: null } })
  packing = new AbortController()
  const hooks = { signal: packing.signal, ...telling((progress) => dispatch({ type: 'exporting', patch: { progress } })) }
  try {
    if (source.kind === 'run') await held(source.runId, hooks)
    const { file, check } = await engine().request('export', { what, runId: source.kind === 'run' ? source.runId : null }, hooks)
    const result = { name: file.name, bytes: file.blob.size, url: URL.createObjectURL(file.blob), check }
    dispatch({ type: 'exporting', patch: { status: 'ready', progress: null, result } })
  } catch (e) {
    dispatch({
      type: 'exporting',
      patch: isAbort(e) ? { status: 'idle', progress: null } : { status: 'failed', progress: null, error: wireOf(e) },
    })
  }
}

export const cancelExport = (): void => {
  packing?.abort()
}
