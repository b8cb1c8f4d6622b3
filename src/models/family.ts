/** @file What a model family declares: how to read its config, what its tensors are called, and its forward pass.
 *
 * To add one: its file beside this one, its test, and its line in registry.ts. */
import { ModelError } from '../errors.ts'
import type { Network, Shape } from '../nn/network.ts'
import type { RopeConfig } from '../nn/rope.ts'
import type { Tensor } from '../tensor/graph.ts'

export type Json = Readonly<Record<string, unknown>>
/** GGUF metadata, by key. */
export type Metadata = ReadonlyMap<string, unknown>

export interface ModelConfig extends Shape {
  readonly modelType: string
  readonly architecture: string
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  /** Width of the embedding and of the head, where it is not `hiddenSize`. */
  readonly embeddingSize?: number
  /** Longest sequence it was made for, tokens. */
  readonly context: number
  /** The head is the embedding. */
  readonly tied: boolean
  /** Rotary settings, in the order that `Network.attention` numbers them; none where positions are learned. */
  readonly ropes: readonly RopeConfig[]
  /** Factor on the embeddings of tokens. Absent: 1. */
  readonly embedScale?: number
  /** Logits are c tanh(x / c) with this c. Absent: as they are. */
  readonly logitSoftcap?: number
  readonly bosId: number | null
  readonly eosIds: readonly number[]
}

/** Width of a token's embedding, and of what the head takes. */
export const embeddingSize = (c: ModelConfig): number => c.embeddingSize ?? c.hiddenSize

/** A parameter, by its Hugging Face name. */
export type Param =
  | {
      readonly kind: 'linear'
      /** Module path, without ".weight". */ readonly name: string
      readonly rows: number
      readonly cols: number
      readonly bias: boolean
      /** Layers of a group share an input. */ readonly group: string
    }
  | { readonly kind: 'vector'; /** Tensor name. */ readonly name: string; readonly size: number }
  | {
      readonly kind: 'table'
      /** Tensor name. */ readonly name: string
      readonly rows: number
      readonly cols: number
      readonly use: 'embedding' | 'head' | 'position'
    }

/** A linear layer [rows, cols] of `group`. */
export const linearParam = (name: string, group: string, rows: number, cols: number, bias: boolean): Param => ({
  kind: 'linear',
  name,
  group,
  rows,
  cols,
  bias,
})

export interface ModelFamily<C extends ModelConfig = ModelConfig> {
  readonly id: string
  readonly title: string
  /** `architectures` and `model_type` of config.json, `general.architecture` of GGUF. */
  readonly architectures: readonly string[]
  readonly modelTypes: readonly string[]
  readonly gguf: readonly string[]
  /** Throws ModelError naming the field. */
  readConfig(config: Json): C
  /** config.json as Hugging Face would have it, from GGUF metadata. */
  ggufConfig(metadata: Metadata, tensorNames: ReadonlySet<string>): Json
  /** Name in a GGUF file of a Hugging Face tensor. */
  ggufName(name: string): string
  /** Rows of a GGUF tensor in Hugging Face's order, where they differ: result[i] is the GGUF row of Hugging Face's row i. */
  ggufRowOrder(name: string, c: C): Uint32Array | null
  /** What llama.cpp's converter added to every value of a tensor. Absent: nothing. */
  ggufShift?(name: string): number
  params(c: C): readonly Param[]
  /** Other names under which safetensors may hold a tensor. */
  aliases?(name: string): readonly string[]
  /** Whether a tensor, by its name in the file, holds nothing of the model: a buffer, or what was read with the config. Absent: none does. */
  holdsNoWeights?(name: string): boolean
  /** Whether a linear layer (by its module path) is a Conv1D in Transformers: safetensors then hold its weight as [in, out], and PEFT calls that fan_in_fan_out. */
  conv1d?(name: string): boolean
  /** Final normalised hidden states, [rows, C]. */
  forward(net: Network, c: C): Tensor
}

/** A whole number field of config.json within bounds. */
export function integer(config: Json, field: string, o: { min: number; max: number; fallback?: number }): number {
  const v = config[field] ?? o.fallback
  if (typeof v !== 'number' || !Number.isInteger(v) || v < o.min || v > o.max)
    throw new ModelError(
      `${field} is ${v === undefined ? 'missing' : JSON.stringify(v)}, expected a whole number from ${o.min} to ${o.max}`,
      {
        where: 'config.json',
        why: 'the shapes of the model follow from it',
        fix: "Take config.json from the model's original repository",
      },
    )
  return v
}

/** One or several token ids, as eos_token_id may be written. */
export const idList = (v: unknown): number[] =>
  (Array.isArray(v) ? v : [v]).filter((n): n is number => typeof n === 'number' && Number.isInteger(n) && n >= 0)
