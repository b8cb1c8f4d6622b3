/** @file Phi-3, Phi-3.5 and Phi-4-mini (Abdin et al. 2024, https://arxiv.org/abs/2404.14219): Llama's decoder with q, k, v in one module, gate and up in another,
 * and LongRoPE. */
import { readRope } from '../nn/rope.ts'
import { decoder } from './decoder.ts'
import { type MetadataField, windows } from './decoder_config.ts'
import { LONGROPE } from './decoder_gguf.ts'
import type { Json, Metadata } from './family.ts'

/** The earliest 128k files call LongRoPE "yarn" (configuration_phi3.py). */
function named(config: Json): Json {
  const fix = (v: unknown): unknown => {
    if (typeof v !== 'object' || v === null) return v
    const section = v as Json
    return (section.rope_type ?? section.type) === 'yarn' ? { ...section, rope_type: 'longrope' } : section
  }
  return { ...config, rope_parameters: fix(config.rope_parameters), rope_scaling: fix(config.rope_scaling) }
}

/** llama.cpp keeps LongRoPE's lists as tensors (convert_hf_to_gguf.py, Phi3MiniModel), which are opened as metadata. */
function ggufFields(get: MetadataField, metadata: Metadata): Json {
  const [short_factor, long_factor] = LONGROPE.map((name) => metadata.get(name))
  const rotated = Number(get('rope.dimension_count'))
  const headDim = Number(get('embedding_length')) / Number(get('attention.head_count'))
  const window = get('attention.sliding_window')
  return {
    original_max_position_embeddings: get('rope.scaling.original_context_length') ?? get('context_length'),
    ...(rotated < headDim && { partial_rotary_factor: rotated / headDim }),
    ...((short_factor ?? long_factor) !== undefined && { rope_scaling: { rope_type: 'longrope', short_factor, long_factor } }),
    // 0 stands for none.
    sliding_window: typeof window === 'number' && window > 0 ? window : null,
  }
}

export const phi3 = decoder({
  id: 'phi3',
  title: 'Phi-3',
  architecture: 'Phi3ForCausalLM',
  modelType: 'phi3',
  gguf: 'phi3',
  defaults: { max_position_embeddings: 4096, original_max_position_embeddings: 4096, rms_norm_eps: 1e-5, pad_token_id: 32_000 },
  activation: { field: 'hidden_act', name: 'silu' },
  fused: true,
  specifics: (config, { layers, headDim }) => ({
    ropes: [readRope(named(config), headDim)],
    attention: windows({ ...config, layer_types: undefined }, layers, () => true).map((window) => ({ window })),
  }),
  ggufFields,
  ggufMetadata: LONGROPE,
})
