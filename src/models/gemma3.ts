/** @file Gemma 3, text (Kamath et al. 2025, https://arxiv.org/abs/2503.19786): Gemma 2's decoder with norms on heads in place of capped scores, and sliding windows
 * with rotary settings of their own in five layers of six. */
import { ModelError } from '../errors.ts'
import { readRope } from '../nn/rope.ts'
import { decoder } from './decoder.ts'
import { integer, type Json } from './family.ts'
import { GEMMA, gemmaSpecifics, queryScalar } from './gemma2.ts'

/** Rotary settings of the layers that see everything, and of those with a window (configuration_gemma3.py). */
function ropes(config: Json, headDim: number) {
  const { rope_parameters, rope_scaling, rope_theta, rope_local_base_freq, ...rest } = config
  const parameters = (rope_parameters ?? {}) as Readonly<Record<string, Json | null>>
  if (Object.keys(parameters).some((name) => name !== 'full_attention' && name !== 'sliding_attention'))
    throw new ModelError(`rope_parameters has the fields ${Object.keys(parameters).join(', ')}`, {
      where: 'config.json',
      why: 'layers with a window and those without have rotary settings of their own: full_attention and sliding_attention',
      fix: "Take config.json from the model's original repository",
    })
  const section = (name: string, older: Json, theta: unknown): Json => ({ rope_theta: theta, ...older, ...parameters[name] })
  const of = (rope: Json) => readRope({ ...rest, rope_parameters: rope }, headDim)
  return [
    of(section('full_attention', (rope_scaling ?? {}) as Json, rope_theta ?? 1_000_000)),
    of(section('sliding_attention', {}, rope_local_base_freq ?? 10_000)),
  ]
}

/** GGUF's lists: of truth values, or typed arrays of numbers. */
const isList = (v: unknown): v is ArrayLike<unknown> => Array.isArray(v) || ArrayBuffer.isView(v)

export const gemma3 = decoder({
  ...GEMMA,
  id: 'gemma3',
  title: 'Gemma 3 (text)',
  architecture: 'Gemma3ForCausalLM',
  modelType: 'gemma3_text',
  gguf: 'gemma3',
  headNorms: true,
  defaults: {
    head_dim: 256,
    max_position_embeddings: 131_072,
    tie_word_embeddings: true,
    pad_token_id: 0,
    query_pre_attn_scalar: 256,
    sliding_window: 4096,
  },
  specifics: (config, sizes) => {
    const pattern = integer(config, 'sliding_window_pattern', { min: 1, max: 1000, fallback: 6 })
    // Transformers reads attn_logit_softcapping and leaves scores as they are.
    const own = gemmaSpecifics({ ...config, attn_logit_softcapping: null }, sizes, (i) => (i + 1) % pattern !== 0)
    const types = config.layer_types
    const slides = (i: number): boolean => (Array.isArray(types) ? types[i] === 'sliding_attention' : (i + 1) % pattern !== 0)
    return { ...own, ropes: ropes(config, sizes.headDim), attention: own.attention.map((a, i) => ({ ...a, rope: slides(i) ? 1 : 0 })) }
  },
  ggufFields: (get) => {
    const window = get('attention.sliding_window')
    const period = get('attention.sliding_window_pattern')
    return {
      ...queryScalar(get, 62),
      rope_local_base_freq: get('rope.freq_base_swa') ?? 10_000,
      // Files of models without windows leave the key out.
      ...(window === undefined ? { sliding_window_pattern: 1 } : { sliding_window: window }),
      ...(typeof period === 'number' && { sliding_window_pattern: period }),
      ...(isList(period) && { layer_types: Array.from(period, (slides) => (slides ? 'sliding_attention' : 'full_attention')) }),
      final_logit_softcapping: get('final_logit_softcapping') ?? null,
    }
  },
})
