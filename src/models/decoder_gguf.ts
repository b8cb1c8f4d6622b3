/** @file llama.cpp's names for decoders of the Llama kind: tensors (gguf-py/gguf/tensor_mapping.py) and metadata (convert_hf_to_gguf.py, TextModel). */
import { ModelError } from '../errors.ts'
import type { DecoderTraits, MetadataField } from './decoder_config.ts'
import type { Json, Metadata } from './family.ts'

const NAMES: readonly [RegExp, string][] = [
  [/^model\.embed_tokens\./, 'token_embd.'],
  [/^model\.norm\./, 'output_norm.'],
  [/^lm_head\./, 'output.'],
  [/^model\.layers\.(\d+)\.input_layernorm\./, 'blk.$1.attn_norm.'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm\./, 'blk.$1.ffn_norm.'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm\./, 'blk.$1.post_ffw_norm.'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm\./, 'blk.$1.attn_$2_norm.'],
  [/^model\.layers\.(\d+)\.self_attn\.(q|k|v|qkv)_proj\./, 'blk.$1.attn_$2.'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\./, 'blk.$1.attn_output.'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\./, 'blk.$1.ffn_$2.'],
  [/^model\.layers\.(\d+)\.mlp\.gate_up_proj\./, 'blk.$1.ffn_up.'],
]
/** LongRoPE's divisors of frequencies, in sequences within the original context and in longer ones. */
export const LONGROPE = ['rope_factors_short.weight', 'rope_factors_long.weight'] as const

/** The norm of this name stands before the feed-forward block, or after attention where both have norms around them. */
const POST_ATTENTION = /^model\.layers\.(\d+)\.post_attention_layernorm\./

export function ggufName(traits: DecoderTraits, name: string): string {
  const post = [POST_ATTENTION, traits.postNorms ? 'blk.$1.post_attention_norm.' : 'blk.$1.ffn_norm.'] as const
  for (const [pattern, to] of [...NAMES, post]) if (pattern.test(name)) return name.replace(pattern, to)
  throw new ModelError(`no GGUF name for ${name}`, { where: traits.id })
}

/** Scaling of rotary positions that llama.cpp keeps as metadata. Without a type a factor is linear, and one of 0 is none (llama-model.cpp). LongRoPE's lists are
 * tensors, which its family reads. */
function scaling(traits: DecoderTraits, get: MetadataField, metadata: Metadata): Json {
  const factor = get('rope.scaling.factor') ?? get('rope.scale_linear')
  const type = get('rope.scaling.type') ?? (factor === undefined || factor === 0 ? 'none' : 'linear')
  switch (type) {
    case 'none':
      return {}
    case 'linear':
      return { rope_scaling: { rope_type: 'linear', factor } }
    case 'yarn': {
      const original = get('rope.scaling.original_context_length')
      return { rope_scaling: { rope_type: 'yarn', factor, ...(original !== undefined && { original_max_position_embeddings: original }) } }
    }
    case 'longrope':
      if (LONGROPE.every((name) => traits.ggufMetadata?.includes(name) && metadata.has(name))) return {}
  }
  throw new ModelError(`rotary scaling ${JSON.stringify(type)} is not supported${type === 'longrope' ? ' without its lists' : ''}`, {
    where: `GGUF, ${traits.gguf}.rope.scaling.type`,
    why: 'positions would be encoded differently from how the model was trained',
    fix: 'Use the safetensors form of this model, whose config.json says how they are scaled',
  })
}

/** Tensors of the first layer that make a field of config.json true. */
const BIASES = {
  attention_bias: ['attn_q', 'attn_k', 'attn_v', 'attn_output'],
  mlp_bias: ['ffn_gate', 'ffn_up', 'ffn_down'],
} as const

/** config.json as Transformers 4 would write it. */
export function ggufConfig(traits: DecoderTraits, metadata: Metadata, tensorNames: ReadonlySet<string>): Json {
  const get: MetadataField = (key) => metadata.get(`${traits.gguf}.${key}`)
  const heads = get('attention.head_count')
  const tokens = metadata.get('tokenizer.ggml.tokens')
  return {
    architectures: [traits.architecture],
    model_type: traits.modelType,
    vocab_size: get('vocab_size') ?? (Array.isArray(tokens) ? tokens.length : undefined),
    hidden_size: get('embedding_length'),
    intermediate_size: get('feed_forward_length'),
    num_hidden_layers: get('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: get('attention.head_count_kv') ?? heads,
    ...(get('attention.key_length') !== undefined && { head_dim: get('attention.key_length') }),
    [traits.activation.field]: traits.activation.name,
    rms_norm_eps: get('attention.layer_norm_rms_epsilon'),
    max_position_embeddings: get('context_length'),
    rope_theta: get('rope.freq_base') ?? 10_000,
    ...scaling(traits, get, metadata),
    ...Object.fromEntries(
      (traits.biasFlags ?? []).filter((f) => BIASES[f].every((t) => tensorNames.has(`blk.0.${t}.bias`))).map((f) => [f, true]),
    ),
    tie_word_embeddings: !tensorNames.has('output.weight'),
    bos_token_id: metadata.get('tokenizer.ggml.bos_token_id'),
    eos_token_id: metadata.get('tokenizer.ggml.eos_token_id'),
    pad_token_id: metadata.get('tokenizer.ggml.padding_token_id'),
    ...traits.ggufFields?.(get, metadata),
  }
}
