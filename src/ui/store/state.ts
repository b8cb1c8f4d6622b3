/** @file The page's state as plain data. `choices` is what a person chose and is kept across reloads; the rest is learned from the workers anew.
 * Per-step points are not here: see `points.ts`. */
import type { DataOptions, CutStats, DatasetSummary, Inspection, PreviewRow } from '../../data/report.ts'
import type { DataProgress } from '../../data/protocol.ts'
import type { WireError } from '../../errors.ts'
import type { Download } from '../../io/hub.ts'
import type { RunExtras, RunOptions } from '../../train/run_config.ts'
import type { DeviceInfo, ExportCheck, ModelInfo, Replies, RunPlan, RunSummary, Sampling } from '../../worker/protocol.ts'

export const STEP_IDS = ['model', 'data', 'method', 'train', 'try'] as const
export type StepId = (typeof STEP_IDS)[number]

/** Which model: files themselves are kept in the browser's own storage, by name here. */
export type ModelChoice =
  | { readonly kind: 'starter' }
  | { readonly kind: 'files'; readonly names: readonly string[]; readonly bytes: number }
  | { readonly kind: 'hub'; readonly repo: string; readonly revision: string }

export type DataChoice =
  { readonly kind: 'sample'; readonly id: string } | { readonly kind: 'files'; readonly names: readonly string[]; readonly bytes: number }

/** The part of the data options a person sets here; length and vocabulary come from the run and the model. */
export type DataSettings = Omit<DataOptions, 'seq' | 'vocabSize'>

export interface Length {
  readonly unit: 'steps' | 'epochs'
  /** Passes over the training rows, where the unit is epochs. */
  readonly epochs: number
}

export interface Choices {
  readonly step: StepId
  readonly model: ModelChoice
  /** Last hub id asked for, for the form. */
  readonly hub: { readonly repo: string; readonly revision: string }
  readonly data: DataChoice
  readonly dataSettings: DataSettings
  readonly method: string
  /** Changed method options by method id. */
  readonly options: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** Changed run options: those some method has its own default for, by method id. */
  readonly ownRun: Readonly<Record<string, Partial<RunOptions>>>
  /** Changed run options that are shared by all methods. */
  readonly sharedRun: Partial<RunOptions>
  readonly length: Length
  readonly extras: Omit<RunExtras, 'samplePrompts' | 'sampleTemplate'>
  /** null: taken from the data. */
  readonly samplePrompts: readonly string[] | null
  readonly runName: string | null
  readonly prompt: string | null
  readonly sampling: Sampling
  readonly chat: boolean
  readonly scale: number
}

export interface Progress {
  readonly label: string
  readonly done: number
  readonly total: number
  readonly unit: 'bytes' | 'tensors' | 'steps'
}

export type EngineState =
  | { readonly status: 'starting'; /** Its kernels are being measured. */ readonly measuring?: boolean }
  | { readonly status: 'ready'; readonly device: DeviceInfo }
  | { readonly status: 'missing' | 'lost'; readonly error: WireError; readonly device: DeviceInfo | null }

export interface ModelState {
  readonly status: 'idle' | 'loading' | 'ready' | 'failed' | 'cancelled'
  /** What is being loaded, or what was cancelled or failed last: it becomes the choice once it loaded. */
  readonly pending: ModelChoice | null
  readonly progress: Progress | null
  readonly info: ModelInfo | null
  readonly error: WireError | null
}

export interface DataState {
  readonly status: 'idle' | 'reading' | 'ready' | 'failed' | 'cancelled'
  readonly progress: DataProgress | null
  readonly inspection: readonly Inspection[]
  readonly summary: DatasetSummary | null
  readonly preview: readonly PreviewRow[]
  /** Index of the first row in `preview`. */
  readonly previewStart: number
  /** At the run's present length. */
  readonly cut: CutStats | null
  /** Prompts found in the first rows. */
  readonly prompts: readonly string[]
  readonly error: WireError | null
}

export interface PlanState {
  readonly status: 'none' | 'planning' | 'probing' | 'ready' | 'failed'
  readonly plan: RunPlan | null
  /** Plans of the other methods at their own options, for the picker. */
  readonly byMethod: Readonly<Record<string, RunPlan>>
  readonly error: WireError | null
  /** A step is measured without being asked for; not any more once that was called off. */
  readonly measures: boolean
}

/** A run as listed and drawn; its points are in the point store under `runId`. */
export interface RunView extends Omit<RunSummary, 'steps'> {
  readonly allocatedBytes: number
  /** The engine holds it: it can be paused, resumed and tried. A listed run is restored first. */
  readonly live: boolean
}

/** What the tuned side of the playground uses. */
export type Tuned =
  { readonly kind: 'run'; readonly runId: string } | ({ readonly kind: 'adapter'; readonly name: string } & Replies['load-adapter'])

export interface SideState {
  readonly status: 'idle' | 'waiting' | 'streaming' | 'done' | 'failed'
  readonly text: string
  readonly result: Replies['generate'] | null
  readonly scale: number
  readonly error: WireError | null
}

export interface TryState {
  readonly base: SideState
  readonly tuned: SideState
  readonly source: Tuned | null
  readonly loading: boolean
  /** How far weights are loaded for an answer; null: none are. */
  readonly work: Progress | null
  /** The next run starts from the loaded adapter. */
  readonly startFromAdapter: boolean
  readonly error: WireError | null
}

export interface ExportState {
  readonly status: 'idle' | 'working' | 'ready' | 'failed'
  readonly what: 'adapter' | 'merged'
  readonly progress: Progress | null
  readonly result: { readonly name: string; readonly bytes: number; readonly url: string; readonly check: ExportCheck } | null
  readonly error: WireError | null
}

/** Models of the hub that are kept in this browser. */
export interface DownloadsState {
  readonly list: readonly Download[]
  /** Repository that is being deleted. */
  readonly deleting: string | null
  readonly error: WireError | null
}

export interface StudioState {
  readonly choices: Choices
  readonly engine: EngineState
  readonly model: ModelState
  readonly downloads: DownloadsState
  readonly data: DataState
  readonly plan: PlanState
  /** Option name → why its text in the form cannot be used; keys are "method.option" or "run.option". */
  readonly invalid: Readonly<Record<string, string>>
  /** Newest first. */
  readonly runs: readonly RunView[]
  readonly current: string | null
  /** A request about the run is under way: buttons wait. */
  readonly busy: boolean
  /** How far it is, while weights are loaded for it: then it can be called off. Null: nothing is loaded. */
  readonly work: Progress | null
  readonly runError: WireError | null
  readonly trying: TryState
  readonly exporting: ExportState
  /** Said once, calmly, at the top of the page; null is nothing. */
  readonly notice: string | null
}

const SIDE: SideState = { status: 'idle', text: '', result: null, scale: 1, error: null }

/** Of the data set that is there on the first visit. */
export const SAMPLE_ID = 'story-morals'
export const INITIAL_CHOICES: Choices = {
  step: 'model',
  model: { kind: 'starter' },
  hub: { repo: '', revision: 'main' },
  data: { kind: 'sample', id: SAMPLE_ID },
  dataSettings: { format: null, mapping: null, evalFraction: 0.1, seed: 0, dedupe: false, completionOnly: null, template: null },
  method: 'lora',
  options: {},
  ownRun: {},
  sharedRun: {},
  length: { unit: 'steps', epochs: 2 },
  extras: { evalEvery: 20, patience: 0, keepBest: true, sampleEvery: 50, sampleTokens: 48, checkpointEvery: 50 },
  samplePrompts: null,
  runName: null,
  prompt: null,
  sampling: { temperature: 0, topK: 0, topP: 1, seed: 0, maxTokens: 96, stop: [] },
  chat: true,
  scale: 1,
}

export const NO_DATA: DataState = {
  status: 'idle',
  progress: null,
  inspection: [],
  summary: null,
  preview: [],
  previewStart: 0,
  cut: null,
  prompts: [],
  error: null,
}

export const INITIAL: StudioState = {
  choices: INITIAL_CHOICES,
  engine: { status: 'starting' },
  model: { status: 'idle', pending: null, progress: null, info: null, error: null },
  downloads: { list: [], deleting: null, error: null },
  data: NO_DATA,
  plan: { status: 'none', plan: null, byMethod: {}, error: null, measures: true },
  invalid: {},
  runs: [],
  current: null,
  busy: false,
  work: null,
  runError: null,
  trying: { base: SIDE, tuned: SIDE, source: null, loading: false, work: null, startFromAdapter: false, error: null },
  exporting: { status: 'idle', what: 'adapter', progress: null, result: null, error: null },
  notice: null,
}
export const IDLE_SIDE = SIDE
