/** @file One request about a run at a time: buttons wait for it, and while it loads weights it is told how far it is and can be called off. */
import type { RequestHooks } from '../../worker/client.ts'
import type { Progress } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'
import { wireOf } from '../wire.ts'

export const isAbort = (e: unknown): boolean => wireOf(e).name === 'AbortError'

let loading: AbortController | null = null

/** Call off what is loading for a run. Nothing where nothing is. */
export const cancelWork = (): void => {
  loading?.abort()
}

/** Do something about a run, unless something is being done. What goes wrong is shown; what was called off is not. */
export async function busily(body: () => Promise<void>): Promise<void> {
  if (store.getState().busy) return
  dispatch({ type: 'busy', busy: true })
  dispatch({ type: 'run-error', error: null })
  try {
    await body()
  } catch (e) {
    if (!isAbort(e)) dispatch({ type: 'run-error', error: wireOf(e) })
  } finally {
    dispatch({ type: 'busy', busy: false })
  }
}

/** Hooks of a request that tell its progress to `tell`. */
export const telling = (tell: (progress: Progress) => void): Pick<RequestHooks, 'onProgress'> => ({
  onProgress: ({ label, done, total, unit }) => {
    tell({ label, done, total, unit })
  },
})

/** Part of `busily` that loads weights: `body` gets the hooks of its request. `cancelWork` calls it off. */
export async function loadingWeights<T>(label: string, body: (hooks: RequestHooks & { signal: AbortSignal }) => Promise<T>): Promise<T> {
  const abort = new AbortController()
  loading = abort
  dispatch({ type: 'work', progress: { label, done: 0, total: 0, unit: 'bytes' } })
  const hooks = telling((progress) => {
    if (!abort.signal.aborted) dispatch({ type: 'work', progress })
  })
  try {
    return await body({ ...hooks, signal: abort.signal })
  } finally {
    if (loading === abort) loading = null
    dispatch({ type: 'work', progress: null })
  }
}
