/** @file The config of a decoder of the Llama kind: what its families have in common, checked field by field, and how they differ. */
import { ModelError } from '../errors.ts'
import type { AttentionSpec } from '../nn/network.ts'
import { readRope } from '../nn/rope.ts'
import { idList, integer, type Json, type Metadata, type ModelConfig } from './family.ts'

/** The function on the gate, by its name in config.json. */
const ACTIVATIONS = { silu: 'silu', gelu_pytorch_tanh: 'gelu_tanh' } as const

export interface DecoderConfig extends ModelConfig {
  readonly biases: { readonly qkv: boolean; readonly output: boolean; readonly mlp: boolean }
  readonly activation: (typeof ACTIVATIONS)[keyof typeof ACTIVATIONS]
  /** Each layer's attention. */
  readonly attention: readonly AttentionSpec[]
}

/** Sizes that a family's own fields are read against. */
export type DecoderSizes = Pick<DecoderConfig, 'hiddenSize' | 'layers' | 'heads' | 'headDim'>
type Specifics = Partial<Pick<DecoderConfig, 'biases' | 'embedScale' | 'attention' | 'ropes' | 'logitSoftcap'>>
/** GGUF metadata under the architecture's prefix. */
export type MetadataField = (key: string) => unknown

/** How one family differs from the others. */
export interface DecoderTraits {
  readonly id: string
  readonly title: string
  readonly architecture: string
  /** `model_type` of config.json. */
  readonly modelType: string
  /** `general.architecture` of GGUF, the prefix of its keys. */
  readonly gguf: string
  /** Fields of config.json that turn biases on. */
  readonly biasFlags?: readonly ('attention_bias' | 'mlp_bias')[]
  /** What the family's config class takes for fields that are left out. */
  readonly defaults?: Json
  readonly activation: { readonly field: string; readonly name: keyof typeof ACTIVATIONS }
  /** q, k and v are one module, gate and up another. */
  readonly fused?: boolean
  /** Heads of queries and keys are normed. */
  readonly headNorms?: boolean
  /** The outputs of attention and of the feed-forward block are normed, too. */
  readonly postNorms?: boolean
  /** Norms scale by 1 + weight. */
  readonly onePlusNorms?: boolean
  /** What follows from fields of its own. */
  specifics?(config: Json, sizes: DecoderSizes): Specifics
  /** Its own fields of config.json, from GGUF metadata. */
  ggufFields?(get: MetadataField, metadata: Metadata): Json
  /** GGUF tensors that `ggufFields` reads as metadata. */
  readonly ggufMetadata?: readonly string[]
  /** Rows of a GGUF tensor in Hugging Face's order; see `ModelFamily`. */
  ggufRowOrder?(name: string, c: DecoderConfig): Uint32Array | null
}

export function refuse(what: string, why: string): never {
  throw new ModelError(what, { where: 'config.json', why, fix: "Take config.json from the model's original repository" })
}

/** A number above 0 of config.json; null where it is null or left out. */
export function positive(config: Json, field: string): number | null {
  const v = config[field] ?? null
  if (v !== null && (typeof v !== 'number' || !(v > 0 && v < Infinity)))
    refuse(`${field} is ${JSON.stringify(v)}, expected a number above 0`, 'the computation needs it')
  return v
}

/** Each layer's window, keys, 0 for none: `sliding_window`, in the layers that `layer_types` names or else in those that the family slides. */
export function windows(config: Json, layers: number, slides: (layer: number) => boolean): number[] {
  const types = config.layer_types ?? Array.from({ length: layers }, (_, i) => (slides(i) ? 'sliding_attention' : 'full_attention'))
  if (!Array.isArray(types) || types.length !== layers || types.some((t) => t !== 'sliding_attention' && t !== 'full_attention'))
    refuse(
      `layer_types is ${JSON.stringify(types).slice(0, 100)}, expected ${layers} times "sliding_attention" or "full_attention"`,
      'each layer sees either all earlier tokens or the latest',
    )
  const sliding = (types as string[]).map((t) => t === 'sliding_attention')
  const size =
    config.sliding_window == null || !sliding.includes(true) ? 0 : integer(config, 'sliding_window', { min: 1, max: 100_000_000 })
  return sliding.map((s) => (s ? size : 0))
}

export function readDecoder(traits: DecoderTraits, file: Json): DecoderConfig {
  const given = Object.fromEntries(Object.entries(file).filter(([, v]) => v !== undefined))
  const config: Json = { ...traits.defaults, ...given }
  const heads = integer(config, 'num_attention_heads', { min: 1, max: 1024 })
  const kvHeads = integer(config, 'num_key_value_heads', { min: 1, max: heads, fallback: heads })
  const hiddenSize = integer(config, 'hidden_size', { min: 4, max: 65_536 })
  if (heads % kvHeads)
    refuse(`${heads} attention heads cannot share ${kvHeads} key heads`, 'grouped-query attention needs a whole number of queries a key')
  if (config.head_dim == null && hiddenSize % heads)
    refuse(`hidden_size ${hiddenSize} is not a multiple of ${heads} heads`, 'each head takes an equal part')
  const headDim = integer(config, 'head_dim', { min: 4, max: 256, fallback: hiddenSize / heads })
  if (headDim % 4 || hiddenSize % 4)
    refuse(`hidden_size ${hiddenSize} and head_dim ${headDim} must be multiples of 4`, 'kernels read four numbers at a time')
  const intermediateSize = integer(config, 'intermediate_size', { min: 4, max: 262_144 })
  if (intermediateSize % 4) refuse(`intermediate_size ${intermediateSize} must be a multiple of 4`, 'kernels read four numbers at a time')
  const { field, name } = traits.activation
  const act = config[field] ?? name
  if (act !== name) refuse(`${field} ${JSON.stringify(act)} is not supported`, `models of ${traits.title} have ${name}`)
  const layers = integer(config, 'num_hidden_layers', { min: 1, max: 512 })
  const sizes = { hiddenSize, layers, heads, headDim }
  const own = traits.specifics?.(config, sizes) ?? {}
  const flag = (name: 'attention_bias' | 'mlp_bias'): boolean => traits.biasFlags?.includes(name) === true && config[name] === true
  return {
    ...sizes,
    kvHeads,
    intermediateSize,
    modelType: typeof config.model_type === 'string' ? config.model_type : traits.modelType,
    architecture: traits.architecture,
    vocabSize: integer(config, 'vocab_size', { min: 2, max: 2_000_000 }),
    normEps: positive(config, 'rms_norm_eps') ?? 1e-6,
    onePlusNorms: traits.onePlusNorms === true,
    context: integer(config, 'max_position_embeddings', { min: 1, max: 100_000_000, fallback: 2048 }),
    tied: config.tie_word_embeddings === true,
    bosId: idList(config.bos_token_id)[0] ?? null,
    eosIds: idList(config.eos_token_id),
    paddingId: idList(config.pad_token_id)[0] ?? null,
    activation: ACTIVATIONS[name],
    biases: { qkv: flag('attention_bias'), output: flag('attention_bias'), mlp: flag('mlp_bias') },
    embedScale: 1,
    attention: Array.from({ length: layers }, () => ({})),
    ...own,
    ropes: own.ropes ?? [readRope(config, headDim)],
  }
}
