/** @file The arithmetic of a LoRA step and of forward passes, counted from the shapes: what their time is held against. */
import { embeddingSize } from '../src/models/family.ts'
import type { ModelBundle } from '../src/train/bundle.ts'

export interface StepShape {
  readonly batch: number
  /** Tokens a row, none of them padding. */
  readonly seq: number
  /** Tokens of a step that have a label. */
  readonly labelled: number
  /** LoRA's, on every linear layer. */
  readonly rank: number
}

type Shape = Pick<ModelBundle, 'params' | 'config'>
const linearsOf = (params: ModelBundle['params']) => params.filter((p) => p.kind === 'linear')
const sizeOf = (matrices: readonly { readonly rows: number; readonly cols: number }[]): number =>
  matrices.reduce((n, p) => n + p.rows * p.cols, 0)

/**
 * Operations of one step of LoRA on all linear layers (a multiplication and an addition are two). Counted: every frozen matrix forward and backward, but
 * backward not where nothing trained comes before it; the head over labelled rows; causal attention, two products forward and five backward (scores are
 * computed again there, as no implementation keeps them); both factors of LoRA forward, backward and their gradients. Not counted: norms, activations,
 * the optimizer, and whatever a policy computes twice to save memory.
 */
export function stepFlops({ params, config }: Shape, { batch, seq, labelled, rank }: StepShape): number {
  const tokens = batch * seq
  const linears = linearsOf(params)
  const size = sizeOf(linears)
  const low = linears.reduce((n, p) => n + rank * (p.rows + p.cols), 0)
  const first = sizeOf(linears.filter((p) => p.group === linears[0].group))
  const head = config.vocabSize * embeddingSize(config)
  const attention = 7 * batch * seq * seq * config.heads * config.headDim * config.layers
  return 2 * tokens * (2 * size - first + 3 * low) + 2 * labelled * 2 * head + attention
}

/** Operations of a loss without gradients: every matrix once, the head over labelled rows, both products of causal attention. Norms and activations are not counted. */
export function lossFlops({ params, config }: Shape, { batch, seq, labelled }: Omit<StepShape, 'rank'>): number {
  const size = sizeOf(linearsOf(params))
  const head = config.vocabSize * embeddingSize(config)
  const attention = 2 * batch * seq * seq * config.heads * config.headDim * config.layers
  return 2 * batch * seq * size + 2 * labelled * head + attention
}

/** Operations of reading `tokens` of one row as a prompt: as a loss of its last token alone. */
export const forwardFlops = (shape: Shape, tokens: number): number => lossFlops(shape, { batch: 1, seq: tokens, labelled: 1 })
