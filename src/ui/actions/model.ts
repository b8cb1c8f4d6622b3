/** @file Loading a model: what was chosen becomes the choice only once it loaded, so a bad file costs nothing. */
import { wireOf } from '../wire.ts'
import type { ModelSpec } from '../../worker/protocol.ts'
import { keepFiles, keptFiles } from '../files.ts'
import { engine } from '../services.ts'
import type { ModelChoice } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'
import { rebuildData } from './data.ts'
import { listDownloads } from './downloads.ts'
import { isAbort } from './work.ts'

let loading: AbortController | null = null
/** The hub token of this visit; never stored. */
let token: string | null = null

export const setHubToken = (t: string): void => {
  token = t.trim() || null
}

export const chooseStarter = (): Promise<void> => load({ kind: 'starter' }, [])
export const chooseModelFiles = (given: readonly File[]): Promise<void> =>
  load({ kind: 'files', names: given.map((f) => f.name), bytes: given.reduce((n, f) => n + f.size, 0) }, given)
export function chooseHub(repo: string, revision: string): Promise<void> {
  dispatch({ type: 'choose', patch: { hub: { repo, revision } } })
  return load({ kind: 'hub', repo, revision }, [])
}

export const cancelModel = (): void => {
  loading?.abort()
}

/** Load what was chosen on an earlier visit. */
export async function reloadModel(): Promise<void> {
  const choice = store.getState().choices.model
  if (choice.kind !== 'files') return load(choice, [])
  const kept = await keptFiles('model-files')
  if (kept) return load(choice, kept)
  dispatch({
    type: 'notice',
    text: 'The model files of the last visit are no longer in this browser, so the starter model was loaded. Drop them again to go on with them.',
  })
  return chooseStarter()
}

async function load(choice: ModelChoice, given: readonly File[]): Promise<void> {
  loading?.abort()
  const abort = new AbortController()
  loading = abort
  dispatch({ type: 'model', patch: { status: 'loading', pending: choice, progress: null, error: null } })
  try {
    await request(choice, given, abort)
  } catch (e) {
    if (loading !== abort) return
    // the engine keeps the model it had until another one is open
    const kept = store.getState().model.info !== null
    const error = isAbort(e) ? null : wireOf(e)
    dispatch({ type: 'model', patch: { status: kept ? 'ready' : error ? 'failed' : 'cancelled', progress: null, error } })
  } finally {
    if (choice.kind === 'hub') void listDownloads()
  }
}

async function request(choice: ModelChoice, given: readonly File[], abort: AbortController): Promise<void> {
  const spec: ModelSpec = choice.kind === 'files' ? { kind: 'files', files: given } : choice.kind === 'hub' ? { ...choice, token } : choice
  const info = await engine().request(
    'load-model',
    { spec },
    {
      signal: abort.signal,
      onProgress: ({ label, done, total, unit }) => {
        if (loading === abort) dispatch({ type: 'model', patch: { progress: { label, done, total, unit } } })
      },
    },
  )
  if (loading !== abort) return
  dispatch({ type: 'choose', patch: { model: choice } })
  dispatch({ type: 'model', patch: { status: 'ready', pending: null, info, progress: null, error: null } })
  if (choice.kind === 'files') void keep(given)
  await rebuildData()
}

async function keep(given: readonly File[]): Promise<void> {
  if (!(await keepFiles('model-files', given)))
    dispatch({ type: 'notice', text: 'This browser has no room to keep the model files: after a reload they must be dropped again.' })
}
