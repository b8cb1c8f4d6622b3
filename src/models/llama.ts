/** @file Llama (Touvron et al. 2023, https://arxiv.org/abs/2302.13971) and what shares its architecture: Llama 2 and 3, SmolLM, SmolLM2, TinyStories. */
import { ModelError } from '../errors.ts'
import { readRope, ropeFrequencies } from '../nn/rope.ts'
import { decoder } from './decoder.ts'
import type { Json, Metadata } from './family.ts'

/** The scaling behind rope_freqs.weight, which llama.cpp writes in place of Llama 3.1's rope_scaling (convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors):
 * the divisor of each rotary frequency. Every published model has low and high factors 1 and 4 and 8,192 original positions, so the largest divisor is the factor. */
function llama3Scaling(metadata: Metadata): Json {
  const divisors = metadata.get('rope_freqs.weight')
  if (!Array.isArray(divisors)) return {}
  const values = divisors.map(Number)
  const rope_scaling = {
    rope_type: 'llama3',
    factor: Math.max(...values),
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  }
  const theta = {
    rope_theta: metadata.get('llama.rope.freq_base') ?? 10_000,
    max_position_embeddings: metadata.get('llama.context_length'),
  }
  const frequencies = (config: Json) => ropeFrequencies(readRope(config, values.length * 2, 'GGUF')).invFreq
  const [plain, scaled] = [frequencies(theta), frequencies({ ...theta, rope_scaling })]
  if (values.some((v, i) => !(Math.abs(v - plain[i] / scaled[i]) <= 1e-3 * v)))
    throw new ModelError('its rotary frequencies are scaled in a way that is not known here', {
      where: 'GGUF, rope_freqs.weight',
      why: 'positions would be encoded differently from how the model was trained',
      fix: 'Use the safetensors form of this model, whose config.json says how they are scaled',
    })
  return { rope_scaling }
}

export const llama = decoder({
  id: 'llama',
  title: 'Llama',
  architecture: 'LlamaForCausalLM',
  modelType: 'llama',
  gguf: 'llama',
  activation: { field: 'hidden_act', name: 'silu' },
  biasFlags: ['attention_bias', 'mlp_bias'],
  ggufFields: (_, metadata) => llama3Scaling(metadata),
  ggufMetadata: ['rope_freqs.weight'],
  // llama.cpp stores q and k for its interleaved rotation: each head's rows as [2, hd / 2] swapped (convert_hf_to_gguf.py, LlamaModel.permute).
  ggufRowOrder: (name, { heads, kvHeads, headDim }) => {
    const permuted = name.includes('.q_proj.') ? heads : name.includes('.k_proj.') ? kvHeads : 0
    if (permuted === 0) return null
    return Uint32Array.from({ length: permuted * headDim }, (_, row) => {
      const inHead = row % headDim
      return row - inHead + (inHead % (headDim / 2)) * 2 + Math.floor(inHead / (headDim / 2))
    })
  },
})
