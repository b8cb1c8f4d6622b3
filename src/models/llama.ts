/** @file Llama (Touvron et al. 2023, https://arxiv.org/abs/2302.13971) and what shares its architecture: Llama 2 and 3, SmolLM, SmolLM2, TinyStories.
 * RMSNorm before each sub-layer, rotary positions, grouped-query attention, SwiGLU. Names: Transformers' modeling_llama.py. */
import { swiglu } from '../autograd/ops/activation.ts'
import { ModelError } from '../errors.ts'
import { readRope, ropeFrequencies } from '../nn/rope.ts'
import { idList, integer, type Json, type Metadata, type ModelConfig, type ModelFamily, type Param } from './family.ts'

interface LlamaConfig extends ModelConfig {
  readonly attentionBias: boolean
  readonly mlpBias: boolean
}

const layer = (i: number): string => `model.layers.${i}`

function readConfig(config: Json): LlamaConfig {
  const heads = integer(config, 'num_attention_heads', { min: 1, max: 1024 })
  const kvHeads = integer(config, 'num_key_value_heads', { min: 1, max: heads, fallback: heads })
  const hiddenSize = integer(config, 'hidden_size', { min: 4, max: 65_536 })
  const fail = (what: string, why: string): never => {
    throw new ModelError(what, { where: 'config.json', why, fix: "Take config.json from the model's original repository" })
  }
  if (heads % kvHeads)
    fail(`${heads} attention heads cannot share ${kvHeads} key heads`, 'grouped-query attention needs a whole number of queries a key')
  if (config.head_dim == null && hiddenSize % heads)
    fail(`hidden_size ${hiddenSize} is not a multiple of ${heads} heads`, 'each head takes an equal part')
  const headDim = integer(config, 'head_dim', { min: 4, max: 256, fallback: hiddenSize / heads })
  if (headDim % 4 || hiddenSize % 4)
    fail(`hidden_size ${hiddenSize} and head_dim ${headDim} must be multiples of 4`, 'kernels read four numbers at a time')
  const intermediateSize = integer(config, 'intermediate_size', { min: 4, max: 262_144 })
  if (intermediateSize % 4) fail(`intermediate_size ${intermediateSize} must be a multiple of 4`, 'kernels read four numbers at a time')
  const act = config.hidden_act ?? 'silu'
  if (act !== 'silu') fail(`hidden_act ${JSON.stringify(act)} is not supported`, 'the Llama family uses silu')
  const eps = config.rms_norm_eps ?? 1e-6
  if (typeof eps !== 'number' || !(eps > 0)) fail(`rms_norm_eps is ${JSON.stringify(eps)}`, 'a norm needs a positive epsilon')
  return {
    modelType: typeof config.model_type === 'string' ? config.model_type : 'llama',
    architecture: 'LlamaForCausalLM',
    vocabSize: integer(config, 'vocab_size', { min: 2, max: 2_000_000 }),
    hiddenSize,
    intermediateSize,
    layers: integer(config, 'num_hidden_layers', { min: 1, max: 512 }),
    heads,
    kvHeads,
    headDim,
    normEps: eps as number,
    context: integer(config, 'max_position_embeddings', { min: 1, max: 100_000_000, fallback: 2048 }),
    tied: config.tie_word_embeddings === true,
    ropes: [readRope(config, headDim)],
    attentionBias: config.attention_bias === true,
    mlpBias: config.mlp_bias === true,
    bosId: idList(config.bos_token_id)[0] ?? null,
    eosIds: idList(config.eos_token_id),
  }
}

function params(c: LlamaConfig): Param[] {
  const { hiddenSize: C, intermediateSize: F } = c
  const biases = { attention: c.attentionBias, mlp: c.mlpBias }
  const linear = (name: string, group: string, rows: number, cols: number, bias: boolean): Param => ({
    kind: 'linear',
    name,
    group,
    rows,
    cols,
    bias,
  })
  const out: Param[] = [{ kind: 'table', name: 'model.embed_tokens.weight', rows: c.vocabSize, cols: C, use: 'embedding' }]
  for (let i = 0; i < c.layers; i++) {
    const [attn, mlp] = [`${layer(i)}.self_attn`, `${layer(i)}.mlp`]
    out.push(
      { kind: 'vector', name: `${layer(i)}.input_layernorm.weight`, size: C },
      linear(`${attn}.q_proj`, `${attn}.qkv`, c.heads * c.headDim, C, biases.attention),
      linear(`${attn}.k_proj`, `${attn}.qkv`, c.kvHeads * c.headDim, C, biases.attention),
      linear(`${attn}.v_proj`, `${attn}.qkv`, c.kvHeads * c.headDim, C, biases.attention),
      linear(`${attn}.o_proj`, `${attn}.o`, C, c.heads * c.headDim, biases.attention),
      { kind: 'vector', name: `${layer(i)}.post_attention_layernorm.weight`, size: C },
      linear(`${mlp}.gate_proj`, `${mlp}.gate_up`, F, C, biases.mlp),
      linear(`${mlp}.up_proj`, `${mlp}.gate_up`, F, C, biases.mlp),
      linear(`${mlp}.down_proj`, `${mlp}.down`, C, F, biases.mlp),
    )
  }
  out.push({ kind: 'vector', name: 'model.norm.weight', size: C })
  if (!c.tied) out.push({ kind: 'table', name: 'lm_head.weight', rows: c.vocabSize, cols: C, use: 'head' })
  return out
}

/** llama.cpp's names (gguf-py/gguf/constants.py, MODEL_ARCH.LLAMA). */
const GGUF_NAMES: readonly [RegExp, string][] = [
  [/^model\.embed_tokens\./, 'token_embd.'],
  [/^model\.norm\./, 'output_norm.'],
  [/^lm_head\./, 'output.'],
  [/^model\.layers\.(\d+)\.input_layernorm\./, 'blk.$1.attn_norm.'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\./, 'blk.$1.ffn_norm.'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\./, 'blk.$1.attn_$2.'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\./, 'blk.$1.attn_output.'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\./, 'blk.$1.ffn_$2.'],
]

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

function ggufConfig(metadata: Metadata, tensorNames: ReadonlySet<string>): Json {
  const get = (key: string): unknown => metadata.get(`llama.${key}`)
  const heads = get('attention.head_count')
  const tokens = metadata.get('tokenizer.ggml.tokens')
  const scaling = get('rope.scaling.type')
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: get('vocab_size') ?? (Array.isArray(tokens) ? tokens.length : undefined),
    hidden_size: get('embedding_length'),
    intermediate_size: get('feed_forward_length'),
    num_hidden_layers: get('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: get('attention.head_count_kv') ?? heads,
    ...(get('attention.key_length') !== undefined && { head_dim: get('attention.key_length') }),
    hidden_act: 'silu',
    rms_norm_eps: get('attention.layer_norm_rms_epsilon'),
    max_position_embeddings: get('context_length'),
    rope_theta: get('rope.freq_base') ?? 10_000,
    ...(scaling === 'linear' && { rope_scaling: { rope_type: 'linear', factor: get('rope.scaling.factor') } }),
    ...llama3Scaling(metadata),
    tie_word_embeddings: !tensorNames.has('output.weight'),
    bos_token_id: metadata.get('tokenizer.ggml.bos_token_id'),
    eos_token_id: metadata.get('tokenizer.ggml.eos_token_id'),
  }
}

export const llama: ModelFamily<LlamaConfig> = {
  id: 'llama',
  title: 'Llama',
  architectures: ['LlamaForCausalLM'],
  modelTypes: ['llama'],
  gguf: ['llama'],
  readConfig,
  ggufConfig,
  ggufName: (name) => {
    for (const [pattern, to] of GGUF_NAMES) if (pattern.test(name)) return name.replace(pattern, to)
    throw new ModelError(`no GGUF name for ${name}`, { where: 'llama' })
  },
  // llama.cpp stores q and k for its interleaved rotation: each head's rows as [2, hd / 2] swapped (convert_hf_to_gguf.py, LlamaModel.permute).
  ggufRowOrder: (name, c) => {
    const heads = name.includes('.q_proj.') ? c.heads : name.includes('.k_proj.') ? c.kvHeads : 0
    if (heads === 0) return null
    const { headDim } = c
    return Uint32Array.from({ length: heads * headDim }, (_, row) => {
      const inHead = row % headDim
      return row - inHead + (inHead % (headDim / 2)) * 2 + Math.floor(inHead / (headDim / 2))
    })
  },
  params,
  forward: (net, c) => {
    let x = net.embed()
    for (let i = 0; i < c.layers; i++) {
      const [attn, mlp] = [`${layer(i)}.self_attn`, `${layer(i)}.mlp`]
      x = net.block(x, (h) => {
        const mixed = net.attention(net.linear(net.rmsNorm(h, `${layer(i)}.input_layernorm.weight`), `${attn}.qkv`), i)
        const y = net.linear(mixed, `${attn}.o`, h)
        return net.linear(
          swiglu(net.linear(net.rmsNorm(y, `${layer(i)}.post_attention_layernorm.weight`), `${mlp}.gate_up`)),
          `${mlp}.down`,
          y,
        )
      })
    }
    return net.rmsNorm(x, 'model.norm.weight')
  },
}
