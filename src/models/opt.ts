/** @file OPT (Zhang et al. 2022, https://arxiv.org/abs/2205.01068): learned positions whose table has two rows before the first, biases, ReLU, and LayerNorm
 * before the sub-layers or (350m) after them, with embeddings of their own width. Names: Transformers' modeling_opt.py. llama.cpp has no such architecture. */
import { add } from '../autograd/ops/pointwise.ts'
import type { Tensor } from '../tensor/graph.ts'
import { ModelError } from '../errors.ts'
import { ACTIVATIONS, type ActivationName, headWidth, layerNormParams, readActivation, refuse } from './absolute.ts'
import { idList, integer, type Json, linearParam, type ModelConfig, type ModelFamily, type Param } from './family.ts'

/** Rows of the position table before that of the first position (OPTLearnedPositionalEmbedding.offset). */
const OFFSET = 2

interface OptConfig extends ModelConfig {
  readonly activation: ActivationName
  readonly biases: boolean
  /** Norms before the sub-layers; else after them. */
  readonly normFirst: boolean
  readonly finalNorm: boolean
  readonly embeddingSize: number
}
const ROOT = 'model.decoder'
const layer = (i: number): string => `${ROOT}.layers.${i}`

/** What OPTConfig takes for fields that are left out. */
const DEFAULTS: Json = { pad_token_id: 1, bos_token_id: 2, eos_token_id: 2 }

function readConfig(file: Json): OptConfig {
  const config = { ...DEFAULTS, ...file }
  const hiddenSize = integer(config, 'hidden_size', { min: 4, max: 65_536 })
  const heads = integer(config, 'num_attention_heads', { min: 1, max: 1024 })
  const intermediateSize = integer(config, 'ffn_dim', { min: 4, max: 262_144 })
  const headDim = headWidth({ hiddenSize, heads, intermediateSize }, { hiddenSize: 'hidden_size', intermediateSize: 'ffn_dim' })
  const embeddingSize = integer(config, 'word_embed_proj_dim', { min: 4, max: 65_536, fallback: hiddenSize })
  if (embeddingSize % 4) throw refuse(`word_embed_proj_dim ${embeddingSize} must be a multiple of 4`, 'kernels read four numbers at a time')
  if (config.layer_norm_elementwise_affine === false)
    throw refuse('layer_norm_elementwise_affine is false', 'norms without a weight are not known here')
  const normFirst = config.do_layer_norm_before !== false
  return {
    modelType: 'opt',
    architecture: 'OPTForCausalLM',
    vocabSize: integer(config, 'vocab_size', { min: 2, max: 2_000_000 }),
    hiddenSize,
    embeddingSize,
    intermediateSize,
    layers: integer(config, 'num_hidden_layers', { min: 1, max: 512 }),
    heads,
    kvHeads: heads,
    headDim,
    normEps: 1e-5,
    context: integer(config, 'max_position_embeddings', { min: 1, max: 1_000_000, fallback: 2048 }),
    tied: config.tie_word_embeddings !== false,
    ropes: [],
    activation: readActivation(config, 'relu'),
    biases: config.enable_bias !== false,
    normFirst,
    finalNorm: normFirst && config._remove_final_layer_norm !== true,
    paddingId: idList(config.pad_token_id)[0] ?? null,
    bosId: idList(config.bos_token_id)[0] ?? null,
    eosIds: idList(config.eos_token_id),
  }
}

function params(c: OptConfig): Param[] {
  const { hiddenSize: C, intermediateSize: F, embeddingSize: E } = c
  const linear = (name: string, group: string, rows: number, cols: number, bias = c.biases): Param =>
    linearParam(name, group, rows, cols, bias)
  const project = (name: string, rows: number, cols: number): Param[] =>
    E === C ? [] : [linear(`${ROOT}.${name}`, `${ROOT}.${name}`, rows, cols, false)]
  return [
    { kind: 'table', name: `${ROOT}.embed_tokens.weight`, rows: c.vocabSize, cols: E, use: 'embedding' },
    { kind: 'table', name: `${ROOT}.embed_positions.weight`, rows: c.context + OFFSET, cols: C, use: 'position' },
    ...project('project_in', C, E),
    ...Array.from({ length: c.layers }, (_, i) => layer(i)).flatMap((at) => [
      ...['q_proj', 'k_proj', 'v_proj'].map((p) => linear(`${at}.self_attn.${p}`, `${at}.self_attn.qkv`, C, C)),
      linear(`${at}.self_attn.out_proj`, `${at}.self_attn.out_proj`, C, C),
      ...layerNormParams(`${at}.self_attn_layer_norm`, C),
      linear(`${at}.fc1`, `${at}.fc1`, F, C),
      linear(`${at}.fc2`, `${at}.fc2`, C, F),
      ...layerNormParams(`${at}.final_layer_norm`, C),
    ]),
    ...(c.finalNorm ? layerNormParams(`${ROOT}.final_layer_norm`, C) : []),
    ...project('project_out', E, C),
    ...(c.tied ? [] : [{ kind: 'table', name: 'lm_head.weight', rows: c.vocabSize, cols: E, use: 'head' } as const]),
  ]
}

const noGguf = (): never => {
  throw new ModelError('llama.cpp has no OPT architecture', { where: 'GGUF', fix: 'Use the safetensors form of this model' })
}

export const opt: ModelFamily<OptConfig> = {
  id: 'opt',
  title: 'OPT',
  architectures: ['OPTForCausalLM', 'OPTModel'],
  modelTypes: ['opt'],
  gguf: [],
  readConfig,
  ggufConfig: noGguf,
  ggufName: noGguf,
  ggufRowOrder: () => null,
  params,
  // Files of the headless model have names without the prefix.
  aliases: (name) => [name.replace(/^model\./, '')],
  forward: (net, c) => {
    const activation = ACTIVATIONS[c.activation]
    const projected = c.embeddingSize !== c.hiddenSize
    const embedded = projected ? net.linear(net.embed(), `${ROOT}.project_in`) : net.embed()
    /** A sub-layer's norm where it stands before, where it stands after: the other one does nothing. */
    const before = (h: Tensor, module: string): Tensor => (c.normFirst ? net.layerNorm(h, module) : h)
    const after = (h: Tensor, module: string): Tensor => (c.normFirst ? h : net.layerNorm(h, module))
    let x = net.blocks(add(embedded, net.positions({ offset: OFFSET })), c.layers, (h, i) => {
      const at = layer(i)
      const [attnNorm, mlpNorm] = [`${at}.self_attn_layer_norm`, `${at}.final_layer_norm`]
      const mixed = net.attention(net.linear(before(h, attnNorm), `${at}.self_attn.qkv`), i, { rope: null })
      const y = after(net.linear(mixed, `${at}.self_attn.out_proj`, h), attnNorm)
      return after(net.linear(activation(net.linear(before(y, mlpNorm), `${at}.fc1`)), `${at}.fc2`, y), mlpNorm)
    })
    if (c.finalNorm) x = net.layerNorm(x, `${ROOT}.final_layer_norm`)
    return projected ? net.linear(x, `${ROOT}.project_out`) : x
  },
}
