/** @file The one store of the page: state, the reducer applied to it, and what of it survives a reload. */
import { useStore } from 'zustand'
import { createJSONStorage, persist } from 'zustand/middleware'
import { createStore } from 'zustand/vanilla'
import { reduce, type StudioEvent } from './reduce.ts'
import { renamed } from '../../train/run_config.ts'
import { INITIAL, INITIAL_CHOICES, STEP_IDS, type Choices, type StudioState } from './state.ts'

const VERSION = 1

/** Choices read back: each known key whose kind of value is still right, the default for the rest. */
export function restoredChoices(stored: unknown): Choices {
  if (typeof stored !== 'object' || stored === null) return INITIAL_CHOICES
  const source = stored as Record<string, unknown>
  const kind = (v: unknown): string => (v === null ? 'null' : Array.isArray(v) ? 'array' : typeof v)
  const nullable: readonly string[] = ['samplePrompts', 'runName', 'prompt']
  const entries = Object.entries(INITIAL_CHOICES).map(([k, initial]: [string, unknown]): [string, unknown] => {
    const v = source[k]
    const right = nullable.includes(k) ? v === null || kind(v) === (k === 'samplePrompts' ? 'array' : 'string') : kind(v) === kind(initial)
    if (!right) return [k, initial]
    return [k, kind(v) === 'object' && k !== 'model' && k !== 'data' ? { ...(initial as object), ...(v as object) } : v]
  })
  const read = Object.fromEntries(entries) as unknown as Choices
  const choices: Choices = { ...read, sharedRun: renamed({ ...read.sharedRun }) }
  return STEP_IDS.includes(choices.step) ? choices : { ...choices, step: 'model' }
}

export const store = createStore<StudioState>()(
  persist(() => INITIAL, {
    name: 'etude',
    version: VERSION,
    storage: createJSONStorage(() => localStorage),
    partialize: (s) => ({ choices: s.choices, current: s.current }),
    merge: (stored, initial) => {
      const kept = (stored ?? {}) as { choices?: unknown; current?: unknown }
      return { ...initial, choices: restoredChoices(kept.choices), current: typeof kept.current === 'string' ? kept.current : null }
    },
  }),
)

export const dispatch = (event: StudioEvent): void => {
  store.setState((s) => reduce(s, event))
}
export const useStudio = <T>(select: (s: StudioState) => T): T => useStore(store, select)
