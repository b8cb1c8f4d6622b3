/** @file What happens when the page opens: find the GPU, then bring back the model, the data and the runs of the last visit. */
import { wireOf } from '../wire.ts'
import { engine } from '../services.ts'
import { dispatch } from '../store/store.ts'
import { reloadData } from './data.ts'
import { reloadModel } from './model.ts'
import { watchPlan } from './plan.ts'
import { listRuns, listenToEngine } from './run.ts'

export async function boot(): Promise<void> {
  listenToEngine()
  watchPlan()
  // data can be looked at even where nothing can be trained
  const data = reloadData()
  try {
    const device = await engine().request('init', {})
    dispatch({ type: 'engine', engine: { status: 'ready', device } })
  } catch (e) {
    dispatch({ type: 'engine', engine: { status: 'missing', error: wireOf(e), device: null } })
    await data
    return
  }
  await Promise.all([reloadModel(), listRuns(), data])
}
