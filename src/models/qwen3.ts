/** @file Qwen3 (Yang et al. 2025, https://arxiv.org/abs/2505.09388): Llama's decoder with norms on the heads of queries and keys. */
import { decoder } from './decoder.ts'
import { qwenWindows } from './qwen2.ts'

export const qwen3 = decoder({
  id: 'qwen3',
  title: 'Qwen3',
  architecture: 'Qwen3ForCausalLM',
  modelType: 'qwen3',
  gguf: 'qwen3',
  defaults: { head_dim: 128, max_position_embeddings: 32_768 },
  activation: { field: 'hidden_act', name: 'silu' },
  headNorms: true,
  biasFlags: ['attention_bias'],
  specifics: (config, { layers }) => ({ attention: qwenWindows(config, layers) }),
})
