/** @file Choices that need no worker: the step, the method, options, length, extras. */
import type { RunOptions } from '../../train/run_config.ts'
import { methodOf, ownNames } from '../store/select.ts'
import type { Choices, RunView, StepId } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'

const choose = (patch: Partial<Choices>): void => {
  dispatch({ type: 'choose', patch })
}

export function goTo(step: StepId): void {
  choose({ step })
  document.querySelector('main')?.scrollTo(0, 0)
  window.scrollTo(0, 0)
  // the new heading is where a screen reader and the keyboard go on
  requestAnimationFrame(() => document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true }))
}

export function chooseMethod(method: string): void {
  const { invalid, choices } = store.getState()
  for (const key of Object.keys(invalid)) if (key.startsWith(`${choices.method}.`)) dispatch({ type: 'invalid', key, why: null })
  choose({ method })
}

export function setOption(name: string, value: unknown): void {
  const { choices } = store.getState()
  const id = methodOf(choices)?.id
  if (id) choose({ options: { ...choices.options, [id]: { ...choices.options[id], [name]: value } } })
}

/** A run option: kept for this method alone where methods differ in it, for all of them else. */
export function setRunOption(name: string, value: unknown): void {
  const { choices } = store.getState()
  const id = methodOf(choices)?.id
  const patch = { [name]: value } as Partial<RunOptions>
  if (id && ownNames().has(name)) choose({ ownRun: { ...choices.ownRun, [id]: { ...choices.ownRun[id], ...patch } } })
  else choose({ sharedRun: { ...choices.sharedRun, ...patch } })
  if (name === 'steps') choose({ length: { ...store.getState().choices.length, unit: 'steps' } })
}

/** Back to what the method and the run declare; how the frozen weights are kept belongs to the model. */
export function resetOptions(): void {
  const { choices, invalid } = store.getState()
  const id = methodOf(choices)?.id ?? ''
  const { base } = choices.sharedRun
  choose({ options: { ...choices.options, [id]: {} }, ownRun: { ...choices.ownRun, [id]: {} }, sharedRun: base ? { base } : {} })
  for (const key of Object.keys(invalid)) dispatch({ type: 'invalid', key, why: null })
}

export const setLength = (patch: Partial<Choices['length']>): void => {
  choose({ length: { ...store.getState().choices.length, ...patch } })
}
export const setExtra = (name: string, value: unknown): void => {
  choose({ extras: { ...store.getState().choices.extras, [name]: value } })
}
export const setSampling = (patch: Partial<Choices['sampling']>): void => {
  choose({ sampling: { ...store.getState().choices.sampling, ...patch } })
}
export const set = choose

export const setInvalid = (key: string, why: string | null): void => {
  if ((store.getState().invalid[key] ?? null) !== why) dispatch({ type: 'invalid', key, why })
}
export const dismissNotice = (): void => {
  dispatch({ type: 'notice', text: null })
}

/** Take over a run's choices for a new one. */
export function repeatRun(run: RunView): void {
  const { choices } = store.getState()
  // Rows are written with the template of the data step.
  const { samplePrompts, sampleTemplate: _, ...extras } = run.extras
  const own = ownNames()
  const entries = Object.entries(run.config.run)
  choose({
    method: run.config.method,
    options: { ...choices.options, [run.config.method]: run.config.options },
    ownRun: { ...choices.ownRun, [run.config.method]: Object.fromEntries(entries.filter(([k]) => own.has(k))) },
    sharedRun: Object.fromEntries(entries.filter(([k]) => !own.has(k))),
    length: { ...choices.length, unit: 'steps' },
    extras,
    samplePrompts,
  })
  dispatch({ type: 'run-shown', runId: null })
}
