/** @file What the page does outside its own content: the title, the wake lock, a checkpoint when it is hidden, a question before it is left. */
import { percent } from '../format.ts'
import { checkpointNow } from '../actions/run.ts'
import { pointsOf } from '../store/points.ts'
import { isRunning } from '../store/select.ts'
import type { RunView } from '../store/state.ts'
import { store } from '../store/store.ts'

/** Title updates while a run works, in ms: a tab's title need not be faster. */
const TITLE_EVERY = 1000

/** "42 % · name · Etude" while a run works. */
export function titleOf(run: RunView | null, step: number): string {
  if (!run) return 'Etude'
  const part = percent(Math.min(step, run.config.run.steps), run.config.run.steps).replace('\u00a0', '')
  switch (run.status) {
    case 'running':
      return `${part} · ${run.name} · Etude`
    case 'paused':
      return `Paused at ${part} · ${run.name} · Etude`
    case 'failed':
      return `Run failed · ${run.name} · Etude`
    case 'done':
    case 'stopped':
      return `Done · ${run.name} · Etude`
  }
}

/** Install all of it; returns how to take it away. */
export function installPageEffects(): () => void {
  let lock: WakeLockSentinel | null = null
  let asking = false
  const holdAwake = async (): Promise<void> => {
    if (lock !== null || asking || document.visibilityState !== 'visible' || !('wakeLock' in navigator)) return
    asking = true
    try {
      lock = await navigator.wakeLock.request('screen')
      lock.addEventListener('release', () => {
        lock = null
      })
      if (!isRunning(store.getState())) void lock.release()
    } catch {
      // refused (battery saver): the run goes on all the same
    } finally {
      asking = false
    }
  }
  const follow = (): void => {
    const s = store.getState()
    const live = s.runs.find((r) => r.live) ?? null
    const title = titleOf(live, pointsOf(live?.runId ?? null).last()?.step ?? live?.step ?? 0)
    if (document.title !== title) document.title = title
    if (isRunning(s)) void holdAwake()
    else void lock?.release()
  }
  const visibility = (): void => {
    if (document.visibilityState === 'hidden') checkpointNow()
    else follow()
  }
  const leave = (e: BeforeUnloadEvent): void => {
    if (isRunning(store.getState())) e.preventDefault()
  }
  const unsubscribe = store.subscribe(follow)
  const timer = setInterval(follow, TITLE_EVERY)
  document.addEventListener('visibilitychange', visibility)
  window.addEventListener('pagehide', checkpointNow)
  window.addEventListener('beforeunload', leave)
  return () => {
    unsubscribe()
    clearInterval(timer)
    document.removeEventListener('visibilitychange', visibility)
    window.removeEventListener('pagehide', checkpointNow)
    window.removeEventListener('beforeunload', leave)
    void lock?.release()
  }
}
