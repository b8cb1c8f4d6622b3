/** @file Keeps the plan true: whenever the model, the method or an option changes, the engine plans the run again; a probe measures a step. */
import { wireOf } from '../wire.ts'
import type { RunConfig } from '../../train/run_config.ts'
import { METHODS } from '../methods.ts'
import { data, engine } from '../services.ts'
import { configOf, extrasOf, isRunning, methodOf } from '../store/select.ts'
import type { StudioState } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'
import { recut } from './data.ts'
import { isAbort, loadingWeights } from './work.ts'

/** Long enough that typing a number plans once, short enough to feel immediate, in ms. */
const SETTLE = 180

let timer: ReturnType<typeof setTimeout> | undefined
let wanted = ''
/** Plans asked of methods that are not chosen, by config: they change rarely. */
const asked = new Map<string, string>()

/** What the plan depends on. Seed, rate and length of the run change no buffer. */
export function planKey(config: RunConfig, s: StudioState): string {
  const { batch, seq, accum, optim, base, pack, policy, activation_dtype, clip } = config.run
  const { samplePrompts, sampleTokens, sampleTemplate } = extrasOf(s)
  return JSON.stringify([
    s.model.info?.fingerprint,
    config.method,
    config.options,
    batch,
    seq,
    accum,
    optim,
    base,
    pack,
    policy,
    activation_dtype,
    clip > 0,
    samplePrompts,
    sampleTokens,
    sampleTemplate,
  ])
}

/** Watch the state and plan when it settles. Returns how to stop. */
export function watchPlan(): () => void {
  const stop = store.subscribe(() => {
    schedule()
  })
  schedule()
  return () => {
    stop()
    clearTimeout(timer)
  }
}

function schedule(): void {
  const s = store.getState()
  const config = configOf(s)
  if (!config || s.engine.status !== 'ready' || !s.model.info || s.model.status !== 'ready') {
    wanted = ''
    return
  }
  // planning waits while a run works, whose own plan is on screen, and while a step is measured
  if (isRunning(s) || s.plan.status === 'probing') return
  const key = planKey(config, s)
  if (key === wanted) return
  wanted = key
  // at once: nothing may be begun by a plan of other choices
  dispatch({ type: 'plan', patch: { status: 'planning' } })
  clearTimeout(timer)
  timer = setTimeout(() => {
    void plan(key, config)
  }, SETTLE)
}

async function plan(key: string, config: RunConfig): Promise<void> {
  void recut(config.run.seq)
  try {
    const plan = await engine().request('plan', { config, extras: extrasOf(store.getState()), probe: false, rows: null, compare: true })
    if (key !== wanted) return
    const { byMethod } = store.getState().plan
    dispatch({ type: 'plan', patch: { status: 'ready', plan, error: null, byMethod: { ...byMethod, [config.method]: plan } } })
    await planOthers(key)
  } catch (e) {
    if (key === wanted) dispatch({ type: 'plan', patch: { status: 'failed', plan: null, error: wireOf(e) } })
  }
}

/** Plans of the other methods, one after another, until something changes. */
async function planOthers(key: string): Promise<void> {
  for (const method of METHODS.values()) {
    const s = store.getState()
    if (key !== wanted || isRunning(s)) return
    const config = configOf(s, method)
    if (!config || method.id === methodOf(s.choices)?.id) continue
    const own = planKey(config, s)
    if (asked.get(method.id) === own) continue
    try {
      const plan = await engine().request('plan', { config, extras: extrasOf(s), probe: false, rows: null })
      if (key !== wanted) return
      asked.set(method.id, own)
      dispatch({ type: 'plan', patch: { byMethod: { ...store.getState().plan.byMethod, [method.id]: plan } } })
    } catch {
      // the picker leaves its figures out; choosing the method says why
      asked.set(method.id, own)
    }
  }
}

/** Run a few steps that are thrown away, to know how long one takes. Where it is called off, the next one waits to be asked for. */
export async function probe(): Promise<void> {
  const s = store.getState()
  const config = configOf(s)
  if (!config || !s.data.summary || s.busy) return
  const key = planKey(config, s)
  dispatch({ type: 'plan', patch: { status: 'probing' } })
  dispatch({ type: 'busy', busy: true })
  try {
    const { train } = await data().rows()
    const fields = { config, extras: extrasOf(s), probe: true, rows: train, compare: true }
    const transfer = [train.ids.buffer, train.labels.buffer, train.offsets.buffer]
    const plan = await loadingWeights('Measuring a step', (hooks) => engine().request('plan', fields, { ...hooks, transfer }))
    if (key === wanted) dispatch({ type: 'plan', patch: { status: 'ready', plan, error: null } })
  } catch (e) {
    if (isAbort(e)) dispatch({ type: 'plan', patch: { measures: false, ...(key === wanted && { status: 'ready' }) } })
    else if (key === wanted) dispatch({ type: 'plan', patch: { status: 'failed', error: wireOf(e) } })
  } finally {
    dispatch({ type: 'busy', busy: false })
  }
}
