/** @file What happens when the page opens: find the GPU, then bring back the model, the data and the runs of the last visit. */
import { wireOf } from '../wire.ts'
import { engine } from '../services.ts'
import { dispatch } from '../store/store.ts'
import { reloadData } from './data.ts'
import { mayTune } from '../tuning.ts'
import { listDownloads } from './downloads.ts'
import { reloadModel } from './model.ts'
import { watchPlan } from './plan.ts'
import { listRuns, listenToEngine } from './run.ts'

export async function boot(): Promise<void> {
  listenToEngine()
  watchPlan()
  // data can be looked at even where nothing can be trained
  const data = reloadData()
  const found = await findGpu()
  // stored runs and their charts can be looked at without a GPU
  await Promise.all([found ? reloadModel() : null, listRuns(), listDownloads(), data])
}

let looking: AbortController | null = null
/** End measuring the GPU: what was found so far is used. */
export const skipMeasuring = (): void => {
  looking?.abort()
}

/** Ask for the GPU: at the start, and again after it was lost. Whether there is one. */
export async function findGpu(): Promise<boolean> {
  looking = new AbortController()
  const onProgress = () => {
    dispatch({ type: 'engine', engine: { status: 'starting', measuring: true } })
  }
  try {
    const device = await engine().request('init', mayTune() ? {} : { tune: false }, { signal: looking.signal, onProgress })
    dispatch({ type: 'engine', engine: { status: 'ready', device } })
    return true
  } catch (e) {
    dispatch({ type: 'engine', engine: { status: 'missing', error: wireOf(e), device: null } })
    return false
  }
}
