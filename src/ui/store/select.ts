/** @file What follows from the state: the values in force, the run they make, what stands in its way. Pure. */
import type { Format } from '../../data/report.ts'
import { defaults, type Options } from '../../options.ts'
import { methodDefaults, type RunConfig, type RunExtras, type RunOptions } from '../../train/run_config.ts'
import type { WireError } from '../../errors.ts'
import { METHODS, type MethodDeclaration } from '../methods.ts'
import type { Choices, RunView, StudioState } from './state.ts'

/** The chosen method, or the first there is: a stored choice may name one that is gone. Null while the registry is empty. */
export const methodOf = (c: Choices, methods = METHODS): MethodDeclaration | null =>
  methods.get(c.method) ?? [...methods.values()][0] ?? null

/** Names of run options that some method has its own default for: a change of these belongs to one method. */
export const ownNames = (methods = METHODS): ReadonlySet<string> =>
  new Set([...methods.values()].flatMap((m) => Object.keys(m.runDefaults)))

/** Values a method's options have now: what was changed over what is declared. Changes that are no longer declared are left out. */
export function optionValues(m: Pick<MethodDeclaration, 'id' | 'options'>, c: Choices): Readonly<Record<string, unknown>> {
  return { ...defaults(m.options), ...known(m.options, c.options[m.id] ?? {}) }
}
const known = (options: Options, values: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(values).filter(([k]) => Object.hasOwn(options, k)))

/** Width of the chosen model, null while there is none. */
export const modelWidth = (s: Pick<StudioState, 'model'>): number | null => s.model.info?.hiddenSize ?? null

/** Run options in force for a method. Steps follow from the epochs where the length is given so. */
export function runValues(m: MethodDeclaration | null, c: Choices, trainRows: number | null, width: number | null): RunOptions {
  const values: RunOptions = { ...methodDefaults(m, width), ...c.sharedRun, ...(m && c.ownRun[m.id]) }
  if (c.length.unit === 'steps' || trainRows === null) return values
  return { ...values, steps: stepsOfEpochs(c.length.epochs, trainRows, values) }
}

/** Optimizer steps of so many passes over the rows. */
export const stepsOfEpochs = (epochs: number, rows: number, o: Pick<RunOptions, 'batch' | 'accum'>): number =>
  Math.max(1, Math.ceil((epochs * rows) / (o.batch * o.accum)))

/** Passes over the rows that so many steps make. */
export const epochsOfSteps = (steps: number, rows: number, o: Pick<RunOptions, 'batch' | 'accum'>): number =>
  rows > 0 ? (steps * o.batch * o.accum) / rows : 0

export const trainRows = (s: StudioState): number | null => s.data.summary?.stats.train ?? null

/** The run the choices make, or null where no method is there. */
export function configOf(s: StudioState, method = methodOf(s.choices)): RunConfig | null {
  if (!method) return null
  return { method: method.id, options: optionValues(method, s.choices), run: runValues(method, s.choices, trainRows(s), modelWidth(s)) }
}

export const promptsOf = (s: StudioState): readonly string[] => s.choices.samplePrompts ?? s.data.prompts
/** The chat template of the data step: the one chosen there, else the model's own; null: none is used. */
export const templateOf = (s: StudioState): string | null => (s.choices.dataSettings.template ?? s.model.info?.chatTemplate) || null
/** Formats whose rows are taken as they are, whatever template there is. */
const PLAIN: readonly (Format | undefined)[] = ['text', 'tokens']
/** The template that rows are written with, and the prompts that are watched during a run. */
const rowTemplateOf = (s: StudioState): string | null =>
  PLAIN.includes(s.data.summary?.files[0]?.detection?.format) ? null : templateOf(s)
export const extrasOf = (s: StudioState): RunExtras => ({
  ...s.choices.extras,
  samplePrompts: promptsOf(s),
  sampleTemplate: rowTemplateOf(s),
})

export const currentRun = (s: StudioState): RunView | null => s.runs.find((r) => r.runId === s.current) ?? null
/** The run the engine holds and works on. */
export const activeRun = (s: StudioState): RunView | null =>
  s.runs.find((r) => r.live && (r.status === 'running' || r.status === 'paused')) ?? null
export const isRunning = (s: StudioState): boolean => s.runs.some((r) => r.live && r.status === 'running')

export interface Obstacle {
  /** What is missing, as a sentence. */
  readonly text: string
  /** The step where it can be put right. */
  readonly at: 'model' | 'data' | 'method' | 'train'
  readonly error: WireError | null
}

/** What keeps a run from starting; null: nothing. The first in order of the steps. */
export function obstacle(s: StudioState): Obstacle | null {
  if (s.engine.status === 'missing' || s.engine.status === 'lost')
    return { text: 'There is no GPU to train on.', at: 'train', error: s.engine.error }
  if (s.model.status === 'failed') return { text: 'The model did not load.', at: 'model', error: s.model.error }
  if (!s.model.info)
    return { text: s.model.status === 'loading' ? 'The model is loading.' : 'Choose a model first.', at: 'model', error: null }
  if (s.data.status === 'failed') return { text: 'The data could not be used.', at: 'data', error: s.data.error }
  if (!s.data.summary)
    return { text: s.data.status === 'reading' ? 'The data is being read.' : 'Choose data first.', at: 'data', error: null }
  if (s.data.summary.stats.train === 0 || s.data.summary.stats.trainableTokens === 0)
    return { text: 'The data has no token to train on.', at: 'data', error: null }
  if (s.data.cut?.trainableTokens === 0)
    return { text: 'At this length every answer is cut away: there is nothing to train on.', at: 'data', error: null }
  const invalid = Object.entries(s.invalid)[0]
  if (invalid) return { text: `${invalid[0].split('.').at(-1) ?? ''}: ${invalid[1]}`, at: 'method', error: null }
  if (!methodOf(s.choices)) return { text: 'No method is there.', at: 'method', error: null }
  if (s.plan.plan?.refusal) return { text: 'This run does not fit the device.', at: 'train', error: s.plan.plan.refusal }
  if (s.plan.status === 'failed') return { text: 'The run could not be planned.', at: 'train', error: s.plan.error }
  return null
}

/** Names of options whose value differs from the default. */
export function changedNames(
  options: Options,
  values: Readonly<Record<string, unknown>>,
  base: Readonly<Record<string, unknown>> = defaults(options),
): ReadonlySet<string> {
  return new Set(Object.keys(options).filter((k) => JSON.stringify(values[k]) !== JSON.stringify(base[k])))
}
