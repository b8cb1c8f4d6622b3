/** @file Everything that crosses the boundary between the page and the engine worker. Plain data: structured clone and nothing else. */
import type { MatrixUnit } from '../gpu/kernel.ts'
import type { TokenizerFiles, TokenRows } from '../data/types.ts'
import type { WireError } from '../errors.ts'
import type { Download } from '../io/hub.ts'
import type { Base, EvalRecord, FixedPolicy, MemoryPlan, RunConfig, RunExtras, SampleRecord, StepRecord } from '../train/run_config.ts'

/** Where a model comes from. Files are structured-cloned File objects (no copy of their bytes). */
export type ModelSpec =
  | { readonly kind: 'starter' }
  | { readonly kind: 'files'; readonly files: readonly File[] }
  | { readonly kind: 'hub'; readonly repo: string; readonly revision: string; readonly token: string | null }

export interface ModelInfo {
  /** Shown name: folder, file or hub id. */
  readonly name: string
  /** Family id ("llama") and `model_type` as the config has it. */
  readonly family: string
  readonly architecture: string
  readonly parameters: number
  /** Bytes of the weights on disk, and how they are stored there ("Q4_1 + Q8_0 + F32"). */
  readonly fileBytes: number
  readonly storage: string
  readonly layers: number
  readonly hiddenSize: number
  readonly heads: number
  readonly kvHeads: number
  readonly vocabSize: number
  /** Longest sequence the model was made for, in tokens. */
  readonly context: number
  readonly chatTemplate: string | null
  readonly tokenizer: TokenizerFiles | null
  /** Converted on load (K-quants …), unusual settings: to be shown. */
  readonly notes: readonly string[]
  /** Names a method's target_modules may take ("q_proj" …). */
  readonly linears: readonly string[]
  /** GPU bytes of the frozen model in each form that it can be kept in. */
  readonly bases: readonly { readonly base: Base; readonly bytes: number }[]
  /** Identity of the weights for manifests: sha-256 over names, shapes and bytes sampled, hex. */
  readonly fingerprint: string
}

export interface DeviceInfo {
  readonly vendor: string
  readonly architecture: string
  readonly description: string
  readonly software: boolean
  readonly f16: boolean
  readonly subgroups: { readonly min: number; readonly max: number } | null
  readonly matrix: MatrixUnit | null
  /** New tokens take packed products. */
  readonly dot: boolean
  readonly maxBufferSize: number
  readonly maxStorageBufferBindingSize: number
  /** Paths that this device gets wrong and that are switched off, a line each. */
  readonly notes: readonly string[]
  /** Classes of matrix products whose kernel was chosen by measuring, and how long that took (once), in ms; null: not measured. */
  readonly tuned: { readonly classes: number; readonly ms: number } | null
}

/** Planned GPU bytes by class, with what the prompts that are watched take. */
export interface RunMemory extends MemoryPlan {
  /** Keys, values and programs of the text that is written during the run. */
  readonly samples: number
}

export interface PolicyCost {
  readonly policy: FixedPolicy
  /** Bytes planned in all. */
  readonly total: number
  readonly dispatches: number
  /** Floating-point operations of a step, as a multiple of what `fast` takes. */
  readonly arithmetic: number
  /** Blocks between inputs that are kept; null: no checkpoints. */
  readonly checkpointEvery: number | null
}
export interface RunPlan {
  readonly memory: RunMemory
  readonly trainable: number
  readonly adapterBytes: number
  readonly dispatches: number
  /** Which activations are kept: the run's policy, or what `auto` came to. */
  readonly policy: FixedPolicy
  /** What each policy would cost, from what takes least time to what takes least memory. Empty unless asked for. */
  readonly policies: readonly PolicyCost[]
  readonly submits: number
  readonly tokensPerStep: number
  /** Measured by a short probe, or null before one. */
  readonly msPerStep: number | null
  /** Why it cannot run, with what would make it fit; null if it can. */
  readonly refusal: WireError | null
}

export interface Sampling {
  /** 0 is greedy. */
  readonly temperature: number
  /** 0 is off. */
  readonly topK: number
  /** 1 is off. */
  readonly topP: number
  readonly seed: number
  readonly maxTokens: number
  /** Generation ends when the text ends with one of these. */
  readonly stop: readonly string[]
}

/** A run as stored: enough to list it, draw it and resume it. */
export interface RunSummary {
  readonly runId: string
  readonly name: string
  readonly createdAt: string
  readonly modelName: string
  readonly modelFingerprint: string
  readonly dataName: string
  readonly config: RunConfig
  readonly extras: RunExtras
  readonly status: RunStatus
  readonly step: number
  /** Optimizer step of the newest stored checkpoint, 0 if none. */
  readonly checkpointStep: number
  readonly steps: readonly StepRecord[]
  readonly evals: readonly EvalRecord[]
  readonly samples: readonly SampleRecord[]
  readonly error: WireError | null
}
export type RunStatus = 'running' | 'paused' | 'stopped' | 'done' | 'failed'

export interface ExportCheck {
  /** Largest absolute difference of the last position's logits, trained against re-loaded. */
  readonly maxAbsDiff: number
  readonly prompt: string
}
export interface ExportFile {
  readonly name: string
  readonly blob: Blob
}

/** A request has an `id` and is answered by one `reply` or `error` with that id; progress may come before. */
export type EngineCommand =
  /** `tune`: whether matrix products may be measured, once; by default on GPUs. Progress comes where they are; cancelled, the answer comes without. */
  | { readonly type: 'init'; readonly id: number; readonly tune?: boolean }
  | { readonly type: 'load-model'; readonly id: number; readonly spec: ModelSpec }
  | { readonly type: 'cancel'; readonly id: number }
  | {
      readonly type: 'plan'
      readonly id: number
      readonly config: RunConfig
      /** Absent: nothing is watched. */
      readonly extras?: RunExtras
      readonly probe: boolean
      readonly rows: TokenRows | null
      /** Plan every policy, to compare. */ readonly compare?: boolean
    }
  | {
      readonly type: 'start'
      readonly id: number
      readonly runId: string
      readonly name: string
      readonly config: RunConfig
      readonly extras: RunExtras
      readonly dataName: string
      readonly train: TokenRows
      readonly held: TokenRows | null
      readonly paused: boolean
      readonly fromAdapter: boolean
    }
  | { readonly type: 'restore'; readonly id: number; readonly runId: string }
  | { readonly type: 'pause' | 'resume' | 'step' | 'stop' | 'checkpoint'; readonly id: number; readonly runId: string }
  | { readonly type: 'list-runs'; readonly id: number }
  | { readonly type: 'delete-run'; readonly id: number; readonly runId: string }
  | {
      readonly type: 'generate'
      readonly id: number
      readonly prompt: string
      /** Chat template (Jinja) that the prompt is written with as a user's turn; null: it is plain text. */
      readonly template: string | null
      readonly which: 'base' | 'tuned'
      /** Which tuned one: this run, which the engine holds; null: the loaded adapter; absent: whichever came last. */
      readonly runId?: string | null
      /** Strength of an adapter, 0 to 2. */
      readonly scale: number
      readonly sampling: Sampling
    }
  | { readonly type: 'load-adapter'; readonly id: number; readonly files: readonly File[] }
  | { readonly type: 'unload-adapter'; readonly id: number }
  | { readonly type: 'list-downloads'; readonly id: number }
  | { readonly type: 'delete-download'; readonly id: number; readonly repo: string }
  | { readonly type: 'export'; readonly id: number; readonly what: 'adapter' | 'merged'; readonly runId: string | null }

/** What each request's reply carries. */
export interface Replies {
  init: DeviceInfo
  'load-model': ModelInfo
  cancel: null
  plan: RunPlan
  start: null
  restore: RunSummary
  pause: null
  resume: null
  step: null
  stop: null
  checkpoint: null
  'list-runs': readonly RunSummary[]
  'delete-run': null
  generate: {
    readonly text: string
    readonly tokens: number
    readonly ms: number
    readonly stopped: 'eos' | 'stop' | 'length' | 'cancelled'
  }
  'load-adapter': {
    readonly method: string
    readonly options: Readonly<Record<string, unknown>>
    readonly trainable: number
    readonly notes: readonly string[]
  }
  'unload-adapter': null
  'list-downloads': readonly Download[]
  'delete-download': null
  export: { readonly file: ExportFile; readonly check: ExportCheck }
}

export type EngineEvent =
  | { [K in keyof Replies]: { readonly type: 'reply'; readonly id: number; readonly to: K; readonly value: Replies[K] } }[keyof Replies]
  | { readonly type: 'error'; readonly id: number | null; readonly runId: string | null; readonly error: WireError }
  | {
      readonly type: 'progress'
      readonly id: number
      readonly label: string
      readonly done: number
      readonly total: number
      readonly unit: 'bytes' | 'tensors' | 'steps'
    }
  | { readonly type: 'token'; readonly id: number; readonly text: string }
  | {
      readonly type: 'run-status'
      readonly runId: string
      readonly status: RunStatus
      readonly step: number
      readonly checkpointStep: number
      readonly allocatedBytes: number
    }
  | { readonly type: 'run-step'; readonly runId: string; readonly record: StepRecord }
  | { readonly type: 'run-eval'; readonly runId: string; readonly record: EvalRecord; readonly best: boolean }
  | { readonly type: 'run-sample'; readonly runId: string; readonly record: SampleRecord }
  | { readonly type: 'device-lost'; readonly error: WireError }
