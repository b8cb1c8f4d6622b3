/** @file What families with learned positions, LayerNorm and a plain feed-forward block share (GPT-2, OPT). */
import { gelu, relu } from '../autograd/ops/activation.ts'
import { ModelError } from '../errors.ts'
import type { Tensor } from '../tensor/graph.ts'
import type { Json, Param } from './family.ts'

/** Transformers' names of activations (activations.py, ACT2FN). */
export const ACTIVATIONS = {
  gelu: (x: Tensor) => gelu(x, 'erf'),
  gelu_new: (x: Tensor) => gelu(x, 'tanh'),
  gelu_fast: (x: Tensor) => gelu(x, 'tanh'),
  gelu_pytorch_tanh: (x: Tensor) => gelu(x, 'tanh'),
  relu: (x: Tensor) => relu(x),
} as const
export type ActivationName = keyof typeof ACTIVATIONS

/** An error about config.json. */
export const refuse = (what: string, why: string): ModelError =>
  new ModelError(what, { where: 'config.json', why, fix: "Take config.json from the model's original repository" })

/** `activation_function`. Throws ModelError where it is none that is known here. */
export function readActivation(config: Json, fallback: ActivationName): ActivationName {
  const name = config.activation_function ?? fallback
  if (typeof name !== 'string' || !(name in ACTIVATIONS))
    throw refuse(`activation_function ${JSON.stringify(name)} is not supported`, `known are ${Object.keys(ACTIVATIONS).join(', ')}`)
  return name as ActivationName
}

/** Width of a head. Throws ModelError, with the fields' names in the config, where the sizes do not go together. */
export function headWidth(
  { hiddenSize, heads, intermediateSize }: { hiddenSize: number; heads: number; intermediateSize: number },
  names: { hiddenSize: string; intermediateSize: string },
): number {
  if (hiddenSize % heads)
    throw refuse(`${names.hiddenSize} ${hiddenSize} is not a multiple of ${heads} heads`, 'each head takes an equal part')
  const headDim = hiddenSize / heads
  if (headDim % 4 || headDim > 256)
    throw refuse(`heads of ${headDim} numbers are not supported`, 'kernels read four numbers at a time, and keep a head of up to 256')
  if (intermediateSize % 4)
    throw refuse(`${names.intermediateSize} ${intermediateSize} must be a multiple of 4`, 'kernels read four numbers at a time')
  return headDim
}

/** A LayerNorm's parameters. */
export const layerNormParams = (module: string, size: number): Param[] => [
  { kind: 'vector', name: `${module}.weight`, size },
  { kind: 'vector', name: `${module}.bias`, size },
]
