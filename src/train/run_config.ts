/** @file A run as plain data: one choice per axis. What the form edits, the CLI's flags set, the manifest records. */
import { bool, choice, defaults, float, int, type Values } from '../options.ts'

export const SCHEDULES = ['constant', 'linear', 'cosine'] as const
/** How the frozen weights of the model are kept on the GPU. */
export const BASES = ['keep', 'nf4', 'q8', 'f16', 'f32'] as const
export type Base = (typeof BASES)[number]

/** AdamW, and how its moments are kept. */
export const OPTIMIZERS = ['adamw', 'adamw_8bit', 'adamw_coat'] as const
export type Optimizer = (typeof OPTIMIZERS)[number]

/** How activations are kept between the forward and the backward pass. */
export const POLICIES = ['auto', 'fast', 'recompute', 'checkpoint', 'lean'] as const
export type Policy = (typeof POLICIES)[number]
export type FixedPolicy = Exclude<Policy, 'auto'>

/** Options of every run, whatever the method. The form, the CLI's flags and its help are rendered from this. Lengths are in tokens. */
export const RUN_OPTIONS = {
  steps: int({ label: 'Steps', help: 'Optimizer steps.', default: 100, min: 1, max: 10_000_000 }),
  lr: float({
    label: 'Learning rate',
    help: 'Base learning rate; each method brings its own default.',
    default: 1e-3,
    min: 0,
    max: 100,
    step: 1e-4,
  }),
  schedule: choice({
    label: 'Schedule',
    help: "How the learning rate moves, as Transformers' get_scheduler.",
    default: 'constant',
    choices: SCHEDULES,
  }),
  warmup: int({ label: 'Warm-up steps', help: 'Steps in which the rate rises from 0.', default: 0, min: 0, max: 10_000_000 }),
  batch: int({ label: 'Batch', help: 'Rows in one forward and backward pass.', default: 4, min: 1, max: 4096 }),
  seq: int({ label: 'Longest row', help: 'Rows are cut at this many tokens.', default: 128, min: 2, max: 1_048_576 }),
  accum: int({
    label: 'Accumulation',
    help: 'Passes per optimizer step; losses are weighed by their tokens.',
    default: 1,
    min: 1,
    max: 65_536,
  }),
  weight_decay: float({
    label: 'Weight decay',
    help: 'Decoupled (AdamW), on every trained tensor.',
    default: 0,
    min: 0,
    max: 10,
    step: 0.01,
  }),
  optim: choice({
    label: 'Optimizer',
    help: 'adamw_8bit (as bitsandbytes) and adamw_coat (COAT, expanded range) keep moments in 8 bits: a quarter of the memory. Tensors under 4096 values keep 32.',
    default: 'adamw',
    choices: OPTIMIZERS,
  }),
  clip: float({ label: 'Gradient clip', help: 'Largest gradient norm; 0 is off.', default: 1, min: 0, max: 1e6, step: 0.1 }),
  seed: int({ label: 'Seed', help: 'Of initialisation, shuffling and dropout.', default: 0, min: 0, max: 0xffffffff }),
  base: choice({
    label: 'Frozen weights',
    help:
      'How they are kept on the GPU: keep = in the bits of the file; nf4 = 4 bits as QLoRA; q8 = 8-bit blocks; f16; f32. nf4 and q8 leave what takes no more bits as it is. ' +
      'Beside a base of 4 or 8 bits, token embeddings and head are 8-bit blocks. A method that trains the weights themselves keeps them as f32.',
    default: 'keep',
    choices: BASES,
  }),
  shuffle: bool({ label: 'Shuffle', help: 'Draw rows in a new seeded order each epoch.', default: true }),
  pack: bool({ label: 'Pack', help: 'Put several short rows into one sequence; they do not see each other.', default: false }),
  policy: choice({
    label: 'Activations',
    help: 'What the forward pass keeps: fast all; recompute not norms and activations; checkpoint the inputs of blocks; lean that, and the loss in pieces; auto the first that fits.',
    default: 'auto',
    choices: POLICIES,
  }),
  activation_dtype: choice({
    label: 'Kept as',
    help: 'How activations wait for the backward pass. f16, with a scale for each row, takes half the memory and rounds to 11 bits; what computes stays f32.',
    default: 'f32',
    choices: ['f32', 'f16'],
  }),
} as const
export type RunOptions = Values<typeof RUN_OPTIONS>

/** Run options as earlier versions stored them, by their present names: `base` was `dtype`, f32 or f16; `policy` was `checkpointing`; `activation_dtype` was
 * `checkpoint_dtype`. */
export function renamed(stored: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { dtype, checkpointing, checkpoint_dtype, ...rest } = stored
  return {
    ...(dtype !== undefined && { base: dtype === 'f16' ? 'f16' : 'keep' }),
    ...(checkpointing !== undefined && { policy: checkpointing === true ? 'checkpoint' : 'auto' }),
    ...(checkpoint_dtype !== undefined && { activation_dtype: checkpoint_dtype }),
    ...rest,
  }
}

/** Width (hidden size) that methods' learning rates are stated for: SmolLM2-135M's, on which they were tried. */
const RATE_WIDTH = 576
/** Run options that a method starts from on a model. Where `rateByWidth`, the rate falls with the model's width, as Adam's best rate of hidden weights does
 * (Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 8); rounded to two digits. `width` null: as declared. */
export function methodDefaults(
  m: { readonly runDefaults: Partial<RunOptions>; readonly rateByWidth: boolean } | null,
  width: number | null,
): RunOptions {
  const declared = { ...defaults(RUN_OPTIONS), ...m?.runDefaults }
  if (!m?.rateByWidth || width === null) return declared
  return { ...declared, lr: Number(((declared.lr * RATE_WIDTH) / width).toPrecision(2)) }
}

export interface RunConfig {
  /** Id in the method registry. */
  readonly method: string
  /** The method's own options, by their declared names. */
  readonly options: Readonly<Record<string, unknown>>
  readonly run: RunOptions
}

/** What the studio adds to a run: evaluation, samples, checkpoints. Counts are in optimizer steps; 0 is never. */
export interface RunExtras {
  readonly evalEvery: number
  /** Stop after this many evaluations without a better loss; 0 is never. */
  readonly patience: number
  readonly keepBest: boolean
  readonly sampleEvery: number
  readonly samplePrompts: readonly string[]
  /** Chat template that rows, and so the prompts, are written with; null: they are plain text. Absent: the model's own. */
  readonly sampleTemplate?: string | null
  readonly sampleTokens: number
  readonly checkpointEvery: number
}

/** One optimizer step, as shown, logged and stored. */
export interface StepRecord {
  readonly step: number
  /** Mean cross-entropy over the labelled tokens of the step, in nats. */
  readonly loss: number
  /** L2 norm of the gradient before clipping. */
  readonly grad_norm: number
  /** Base learning rate used. */
  readonly lr: number
  /** Labelled tokens. */
  readonly tokens: number
  /** Wall time, ms. */
  readonly ms: number
}
export interface EvalRecord {
  /** After this many steps; 0 is the untouched model. */
  readonly step: number
  readonly loss: number
  readonly perplexity: number
  readonly tokens: number
}
export interface SampleRecord {
  readonly step: number
  readonly prompt: string
  readonly text: string
}

/** Planned GPU bytes by class. Exact: the buffers that will be created. */
export interface MemoryPlan {
  readonly weights: number
  readonly adapter: number
  readonly optimizer: number
  readonly activations: number
  readonly head: number
  readonly total: number
}
