/** @file Gemma 2 (Riviere et al. 2024, https://arxiv.org/abs/2408.00118): norms before and after sub-layers, soft-capped scores and logits, a sliding window in every
 * other layer. */
import { ModelError } from '../errors.ts'
import { decoder } from './decoder.ts'
import { type DecoderSizes, type MetadataField, positive, windows } from './decoder_config.ts'
import type { Json } from './family.ts'

/** What Gemma 2 and 3 have in common. */
export const GEMMA = {
  activation: { field: 'hidden_activation', name: 'gelu_pytorch_tanh' },
  postNorms: true,
  onePlusNorms: true,
  biasFlags: ['attention_bias'],
} as const

/** Each layer's attention and window, the factor on the embeddings, and the caps. */
export function gemmaSpecifics(config: Json, { hiddenSize, layers, headDim }: DecoderSizes, slides: (layer: number) => boolean) {
  if (config.use_bidirectional_attention === true)
    throw new ModelError('use_bidirectional_attention is on', {
      where: 'config.json',
      why: 'tokens would see those after them: such a model embeds text and does not write it',
      fix: 'Use a model that generates text',
    })
  const logitSoftcap = positive(config, 'final_logit_softcapping')
  const spec = {
    scale: (positive(config, 'query_pre_attn_scalar') ?? headDim) ** -0.5,
    softcap: positive(config, 'attn_logit_softcapping') ?? 0,
  }
  return {
    embedScale: Math.sqrt(hiddenSize),
    attention: windows(config, layers, slides).map((window) => ({ ...spec, window })),
    ...(logitSoftcap !== null && { logitSoftcap }),
  }
}

/** GGUF has no query_pre_attn_scalar: llama.cpp knows it by the layers of the largest model (llama-model.cpp), hidden_size / heads there, else a head's size. */
export const queryScalar = (get: MetadataField, layersOfLargest: number): Json => ({
  query_pre_attn_scalar:
    get('block_count') === layersOfLargest
      ? Number(get('embedding_length')) / Number(get('attention.head_count'))
      : get('attention.key_length'),
})

export const gemma2 = decoder({
  ...GEMMA,
  id: 'gemma2',
  title: 'Gemma 2',
  architecture: 'Gemma2ForCausalLM',
  modelType: 'gemma2',
  gguf: 'gemma2',
  defaults: {
    head_dim: 256,
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
    pad_token_id: 0,
    query_pre_attn_scalar: 256,
    sliding_window: 4096,
    final_logit_softcapping: 30,
    attn_logit_softcapping: 50,
  },
  specifics: (config, sizes) => gemmaSpecifics(config, sizes, (i) => i % 2 === 0),
  ggufFields: (get) => ({
    ...queryScalar(get, 46),
    sliding_window: get('attention.sliding_window') ?? 4096,
    final_logit_softcapping: get('final_logit_softcapping') ?? 30,
    attn_logit_softcapping: get('attn_logit_softcapping') ?? 50,
  }),
})
