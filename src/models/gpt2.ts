/** @file GPT-2 (Radford et al. 2019, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf): learned positions,
 * LayerNorm before each sub-layer, one fused q|k|v layer, GELU. Names: Transformers' modeling_gpt2.py, whose linear layers are Conv1D. */
import { add } from '../autograd/ops/pointwise.ts'
import { ModelError } from '../errors.ts'
import { ACTIVATIONS, type ActivationName, headWidth, layerNormParams, readActivation, refuse } from './absolute.ts'
import { idList, integer, type Json, type ModelConfig, type ModelFamily, type Param } from './family.ts'

interface Gpt2Config extends ModelConfig {
  readonly activation: ActivationName
  /** Factor on q·k, by layer. */
  readonly scales: readonly number[]
}
const layer = (i: number): string => `transformer.h.${i}`

/** GPT-2's name of a field, or the general one that Transformers takes for it (GPT2Config.attribute_map). */
function field(config: Json, name: string, general: string, o: { min: number; max: number; fallback?: number }): number {
  return config[name] == null && config[general] != null ? integer(config, general, o) : integer(config, name, o)
}

function readConfig(config: Json): Gpt2Config {
  const hiddenSize = field(config, 'n_embd', 'hidden_size', { min: 4, max: 65_536, fallback: 768 })
  const heads = field(config, 'n_head', 'num_attention_heads', { min: 1, max: 1024, fallback: 12 })
  const layers = field(config, 'n_layer', 'num_hidden_layers', { min: 1, max: 512, fallback: 12 })
  const intermediateSize = integer(config, 'n_inner', { min: 4, max: 262_144, fallback: 4 * hiddenSize })
  const headDim = headWidth({ hiddenSize, heads, intermediateSize }, { hiddenSize: 'n_embd', intermediateSize: 'n_inner' })
  if (config.add_cross_attention === true) throw refuse('add_cross_attention is on', 'there is no encoder here whose states it could read')
  const eps = config.layer_norm_epsilon ?? 1e-5
  if (typeof eps !== 'number' || !(eps > 0)) throw refuse(`layer_norm_epsilon is ${JSON.stringify(eps)}`, 'a norm needs a positive epsilon')
  const scale = config.scale_attn_weights === false ? 1 : 1 / Math.sqrt(headDim)
  const byLayer = config.scale_attn_by_inverse_layer_idx === true
  return {
    modelType: 'gpt2',
    architecture: 'GPT2LMHeadModel',
    vocabSize: integer(config, 'vocab_size', { min: 2, max: 2_000_000 }),
    hiddenSize,
    intermediateSize,
    layers,
    heads,
    kvHeads: heads,
    headDim,
    normEps: eps,
    context: field(config, 'n_positions', 'max_position_embeddings', { min: 1, max: 1_000_000, fallback: 1024 }),
    tied: config.tie_word_embeddings !== false,
    ropes: [],
    activation: readActivation(config, 'gelu_new'),
    scales: Array.from({ length: layers }, (_, i) => scale / (byLayer ? i + 1 : 1)),
    bosId: idList(config.bos_token_id)[0] ?? null,
    eosIds: idList(config.eos_token_id),
  }
}

function params(c: Gpt2Config): Param[] {
  const { hiddenSize: C, intermediateSize: F } = c
  const linear = (name: string, rows: number, cols: number): Param => ({ kind: 'linear', name, group: name, rows, cols, bias: true })
  return [
    { kind: 'table', name: 'transformer.wte.weight', rows: c.vocabSize, cols: C, use: 'embedding' },
    { kind: 'table', name: 'transformer.wpe.weight', rows: c.context, cols: C, use: 'position' },
    ...Array.from({ length: c.layers }, (_, i) => layer(i)).flatMap((at) => [
      ...layerNormParams(`${at}.ln_1`, C),
      linear(`${at}.attn.c_attn`, 3 * C, C),
      linear(`${at}.attn.c_proj`, C, C),
      ...layerNormParams(`${at}.ln_2`, C),
      linear(`${at}.mlp.c_fc`, F, C),
      linear(`${at}.mlp.c_proj`, C, F),
    ]),
    ...layerNormParams('transformer.ln_f', C),
    ...(c.tied ? [] : [{ kind: 'table', name: 'lm_head.weight', rows: c.vocabSize, cols: C, use: 'head' } as const]),
  ]
}

/** llama.cpp's names (gguf-py/gguf/constants.py, MODEL_ARCH.GPT2). Its converter turns Conv1D weights to [out, in] (GPT2Model.modify_tensors). */
const GGUF_NAMES: readonly [RegExp, string][] = [
  [/^transformer\.wte\./, 'token_embd.'],
  [/^transformer\.wpe\./, 'position_embd.'],
  [/^transformer\.ln_f\./, 'output_norm.'],
  [/^lm_head\./, 'output.'],
  [/^transformer\.h\.(\d+)\.ln_1\./, 'blk.$1.attn_norm.'],
  [/^transformer\.h\.(\d+)\.ln_2\./, 'blk.$1.ffn_norm.'],
  [/^transformer\.h\.(\d+)\.attn\.c_attn\./, 'blk.$1.attn_qkv.'],
  [/^transformer\.h\.(\d+)\.attn\.c_proj\./, 'blk.$1.attn_output.'],
  [/^transformer\.h\.(\d+)\.mlp\.c_fc\./, 'blk.$1.ffn_up.'],
  [/^transformer\.h\.(\d+)\.mlp\.c_proj\./, 'blk.$1.ffn_down.'],
]

export const gpt2: ModelFamily<Gpt2Config> = {
  id: 'gpt2',
  title: 'GPT-2',
  architectures: ['GPT2LMHeadModel', 'GPT2Model'],
  modelTypes: ['gpt2'],
  gguf: ['gpt2'],
  readConfig,
  ggufConfig: (metadata, tensorNames) => {
    const get = (key: string): unknown => metadata.get(`gpt2.${key}`)
    const tokens = metadata.get('tokenizer.ggml.tokens')
    return {
      architectures: ['GPT2LMHeadModel'],
      model_type: 'gpt2',
      vocab_size: get('vocab_size') ?? (Array.isArray(tokens) ? tokens.length : undefined),
      n_embd: get('embedding_length'),
      n_inner: get('feed_forward_length'),
      n_layer: get('block_count'),
      n_head: get('attention.head_count'),
      n_positions: get('context_length'),
      activation_function: 'gelu_new',
      layer_norm_epsilon: get('attention.layer_norm_epsilon'),
      tie_word_embeddings: !tensorNames.has('output.weight'),
      bos_token_id: metadata.get('tokenizer.ggml.bos_token_id'),
      eos_token_id: metadata.get('tokenizer.ggml.eos_token_id'),
    }
  },
  ggufName: (name) => {
    for (const [pattern, to] of GGUF_NAMES) if (pattern.test(name)) return name.replace(pattern, to)
    throw new ModelError(`no GGUF name for ${name}`, { where: 'gpt2' })
  },
  ggufRowOrder: () => null,
  params,
  // Files of the headless model, OpenAI's own among them, have names without the prefix.
  aliases: (name) => [name.replace(/^transformer\./, '')],
  // Masks of its attention, which the hub's files have.
  holdsNoWeights: (name) => /\.attn\.(masked_)?bias$/.test(name),
  conv1d: (name) => name.startsWith('transformer.h.'),
  forward: (net, c) => {
    const activation = ACTIVATIONS[c.activation]
    const x = net.blocks(add(net.embed(), net.positions()), c.layers, (h, i) => {
      const at = layer(i)
      const mixed = net.attention(net.linear(net.layerNorm(h, `${at}.ln_1`), `${at}.attn.c_attn`), i, { rope: null, scale: c.scales[i] })
      const y = net.linear(mixed, `${at}.attn.c_proj`, h)
      return net.linear(activation(net.linear(net.layerNorm(y, `${at}.ln_2`), `${at}.mlp.c_fc`)), `${at}.mlp.c_proj`, y)
    })
    return net.layerNorm(x, 'transformer.ln_f')
  },
}
