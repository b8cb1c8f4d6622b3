/** @file Qwen2 and Qwen2.5 (Yang et al. 2024, https://arxiv.org/abs/2407.10671): Llama's decoder with biases on q, k and v. */
import type { AttentionSpec } from '../nn/network.ts'
import { decoder } from './decoder.ts'
import { windows } from './decoder_config.ts'
import { integer, type Json } from './family.ts'

/** Windows of Qwen2 and Qwen3: with `use_sliding_window`, in the layers from `max_window_layers` on (configuration_qwen2.py). */
export function qwenWindows(config: Json, layers: number): AttentionSpec[] {
  const first = integer(config, 'max_window_layers', { min: 0, max: 100_000, fallback: 28 })
  const used = config.use_sliding_window === true
  const { sliding_window = 4096 } = config
  return windows({ ...config, sliding_window: used ? sliding_window : null }, layers, (i) => used && i >= first).map((window) => ({
    window,
  }))
}

export const qwen2 = decoder({
  id: 'qwen2',
  title: 'Qwen2 and Qwen2.5',
  architecture: 'Qwen2ForCausalLM',
  modelType: 'qwen2',
  gguf: 'qwen2',
  defaults: { max_position_embeddings: 32_768 },
  activation: { field: 'hidden_act', name: 'silu' },
  specifics: (config, { layers }) => ({ biases: { qkv: true, output: false, mlp: false }, attention: qwenWindows(config, layers) }),
})
