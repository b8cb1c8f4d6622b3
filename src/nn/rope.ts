/** @file Rotary frequencies of a model, from its config.json, as Transformers' modeling_rope_utils computes them (in float32).
 *
 * Reads both generations of the file: `rope_theta` with `rope_scaling: {type | rope_type, …}`, and `rope_parameters: {rope_theta, rope_type, …}`. */
import { ModelError } from '../errors.ts'

const TYPES = ['default', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope'] as const
export type RopeType = (typeof TYPES)[number]

/** Fields under their names in config.json. Those that `rope_type` does not use are ignored. */
export interface RopeConfig {
  readonly rope_type: RopeType
  readonly rope_theta: number
  readonly head_dim: number
  /** Share of a head that is rotated: its leading dimensions. */
  readonly partial_rotary_factor: number
  readonly max_position_embeddings: number
  readonly original_max_position_embeddings: number
  readonly factor: number
  readonly low_freq_factor: number
  readonly high_freq_factor: number
  readonly attention_factor: number | null
  readonly mscale: number | null
  readonly mscale_all_dim: number | null
  readonly beta_fast: number
  readonly beta_slow: number
  readonly truncate: boolean
  /** Divisor of each pair's frequency: in sequences of up to `original_max_position_embeddings` tokens, and in longer ones. */
  readonly short_factor: readonly number[]
  readonly long_factor: readonly number[]
}

export interface RopeFrequencies {
  /** Radians a position of each rotated pair: half of the rotated dimensions. */
  readonly invFreq: Float32Array<ArrayBuffer>
  /** Factor on sine and cosine. */
  readonly attentionFactor: number
}

type Json = Readonly<Record<string, unknown>>
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v)

const DEFAULT_THETA = 10_000
const REQUIRED: Readonly<Record<RopeType, readonly (keyof RopeConfig)[]>> = {
  default: [],
  linear: ['factor'],
  dynamic: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor'],
  yarn: [],
  longrope: ['short_factor', 'long_factor'],
}

/** The rotary settings of a config.json. Errors (ModelError) name the field.
 * @param config the parsed file  @param headDim dimensions of an attention head  @param file its name, for messages */
export function readRope(config: Json, headDim: number, file = 'config.json'): RopeConfig {
  const [key, section] = isObject(config.rope_parameters)
    ? ['rope_parameters', config.rope_parameters]
    : isObject(config.rope_scaling)
      ? ['rope_scaling', config.rope_scaling]
      : ['', {} as Json]
  const fail = (field: string, what: string, fix: string): never => {
    throw new ModelError(what, {
      where: `${file}, ${field}`,
      why: 'positions would be encoded differently from how the model was trained',
      fix,
    })
  }
  const at = (field: string): string => (key ? `${key}.${field}` : field)
  if (Object.values(section).some(isObject))
    fail(key, 'rotary settings that differ between layers are not supported', 'Use a model whose layers share one set of rotary settings')
  const type = section.rope_type ?? section.type ?? 'default'
  // Early Phi-3 files call LongRoPE "su".
  const known = TYPES.find((t) => t === (type === 'su' ? 'longrope' : type))
  const rope_type =
    known ?? fail(at('rope_type'), `rotary scaling ${JSON.stringify(type)} is not supported`, `Use a model with one of ${TYPES.join(', ')}`)

  const number = (field: string, ...sources: readonly Json[]): number | null => {
    for (const s of sources) {
      const v = s[field]
      if (v === undefined || v === null) continue
      if (typeof v !== 'number' || !Number.isFinite(v) || v <= 0)
        fail(s === config ? field : at(field), `expected a number above 0, got ${JSON.stringify(v)}`, 'Correct the file')
      return v as number
    }
    return null
  }
  const numbers = (field: string): readonly number[] => {
    const v = section[field] ?? []
    if (!Array.isArray(v) || v.some((n) => typeof n !== 'number' || !Number.isFinite(n) || n <= 0))
      fail(at(field), 'expected a list of numbers above 0', 'Correct the file')
    return v as number[]
  }
  for (const field of REQUIRED[rope_type])
    if (section[field] === undefined || section[field] === null)
      fail(at(field), `missing, and ${rope_type} scaling needs it`, 'Correct the file, or take it from the model’s original repository')
  const max = number('max_position_embeddings', config)
  const original = number('original_max_position_embeddings', config, section) ?? max
  if (max === null && (rope_type === 'dynamic' || rope_type === 'yarn'))
    fail('max_position_embeddings', `missing, and ${rope_type} scaling needs it`, 'Correct the file')
  if (original === null && (rope_type === 'llama3' || rope_type === 'longrope'))
    fail(at('original_max_position_embeddings'), `missing, and ${rope_type} scaling needs it`, 'Correct the file')
  const low = number('low_freq_factor', section)
  const high = number('high_freq_factor', section)
  if (rope_type === 'llama3' && high! <= low!)
    fail(at('high_freq_factor'), `${high} must be above low_freq_factor (${low})`, 'Correct the file')
  const partial_rotary_factor = number('partial_rotary_factor', section, config) ?? 1
  const [short_factor, long_factor] = [numbers('short_factor'), numbers('long_factor')]
  const pairs = Math.ceil(Math.trunc(headDim * partial_rotary_factor) / 2)
  for (const [field, list] of Object.entries({ short_factor, long_factor }))
    if (rope_type === 'longrope' && list.length !== pairs)
      fail(
        at(field),
        `${list.length} numbers for ${pairs} rotated pairs`,
        'Correct the file, or take it from the model’s original repository',
      )
  return {
    rope_type,
    rope_theta: number('rope_theta', section, config) ?? DEFAULT_THETA,
    head_dim: headDim,
    partial_rotary_factor,
    max_position_embeddings: max ?? 0,
    original_max_position_embeddings: original ?? 0,
    // YaRN (DeepSeek-V3) and LongRoPE (Phi-3) without a factor: the ratio of the two context lengths.
    factor: number('factor', section) ?? (max !== null && original !== null ? max / original : 1),
    low_freq_factor: low ?? 1,
    high_freq_factor: high ?? 1,
    attention_factor: number('attention_factor', section),
    mscale: number('mscale', section),
    mscale_all_dim: number('mscale_all_dim', section),
    beta_fast: number('beta_fast', section) ?? 32,
    beta_slow: number('beta_slow', section) ?? 1,
    truncate: section.truncate !== false,
    short_factor,
    long_factor,
  }
}

/** Frequencies for sequences of up to `sequenceLength` tokens. Two types depend on it: beyond the trained context `dynamic` stretches the base, and `longrope`
 * takes its other list. Sources: transformers/modeling_rope_utils.py; YaRN, https://arxiv.org/abs/2309.00071; LongRoPE, https://arxiv.org/abs/2402.13753. */
export function ropeFrequencies(o: RopeConfig, sequenceLength = o.max_position_embeddings): RopeFrequencies {
  const dim = Math.trunc(o.head_dim * o.partial_rotary_factor)
  const pairs = Math.ceil(dim / 2)
  const theta = o.rope_type === 'dynamic' ? dynamicTheta(o, dim, sequenceLength) : o.rope_theta
  // Float32 at each step, as torch does it.
  const power = Float32Array.from({ length: pairs }, (_, i) => theta ** Math.fround((2 * i) / dim))
  const base = power.map((p) => 1 / p)
  switch (o.rope_type) {
    case 'default':
    case 'dynamic':
      return { invFreq: base, attentionFactor: 1 }
    case 'linear':
      return { invFreq: base.map((f) => f / o.factor), attentionFactor: 1 }
    case 'llama3':
      return { invFreq: base.map((f) => llama3(f, o)), attentionFactor: 1 }
    case 'longrope': {
      const divisors = Float32Array.from(sequenceLength > o.original_max_position_embeddings ? o.long_factor : o.short_factor)
      const factor = o.factor <= 1 ? 1 : Math.sqrt(1 + Math.log(o.factor) / Math.log(o.original_max_position_embeddings))
      return { invFreq: power.map((p, i) => 1 / Math.fround(divisors[i] * p)), attentionFactor: o.attention_factor ?? factor }
    }
    case 'yarn': {
      const [low, high] = yarnRange(o, dim)
      const keep = (i: number): number => 1 - Math.min(1, Math.max(0, (i - low) / (high - low)))
      return { invFreq: base.map((f, i) => (1 / (o.factor * power[i])) * (1 - keep(i)) + f * keep(i)), attentionFactor: yarnAttention(o) }
    }
  }
}

function dynamicTheta(o: RopeConfig, dim: number, sequenceLength: number): number {
  const length = Math.max(sequenceLength, o.max_position_embeddings)
  return o.rope_theta * ((o.factor * length) / o.max_position_embeddings - (o.factor - 1)) ** (dim / (dim - 2))
}

/** Long wavelengths are divided by `factor`, short ones kept, those between interpolated. */
function llama3(f: number, o: RopeConfig): number {
  const wavelength = (2 * Math.PI) / f
  const turns = o.original_max_position_embeddings / wavelength
  if (turns > o.high_freq_factor) return f
  if (turns < o.low_freq_factor) return f / o.factor
  const smooth = (turns - o.low_freq_factor) / (o.high_freq_factor - o.low_freq_factor)
  return ((1 - smooth) * f) / o.factor + smooth * f
}

/** First and last pair of the ramp between extrapolated and interpolated frequencies. */
function yarnRange(o: RopeConfig, dim: number): [number, number] {
  const at = (turns: number): number =>
    (dim * Math.log(o.original_max_position_embeddings / (turns * 2 * Math.PI))) / (2 * Math.log(o.rope_theta))
  const [low, high] = o.truncate ? [Math.floor(at(o.beta_fast)), Math.ceil(at(o.beta_slow))] : [at(o.beta_fast), at(o.beta_slow)]
  const first = Math.max(low, 0)
  const last = Math.min(high, dim - 1)
  return [first, last === first ? last + 0.001 : last]
}

function yarnAttention(o: RopeConfig): number {
  const mscale = (m: number): number => (o.factor <= 1 ? 1 : 0.1 * m * Math.log(o.factor) + 1)
  if (o.attention_factor !== null) return o.attention_factor
  return o.mscale !== null && o.mscale_all_dim !== null ? mscale(o.mscale) / mscale(o.mscale_all_dim) : mscale(1)
}
