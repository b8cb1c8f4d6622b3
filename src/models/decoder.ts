/** @file Decoders of the Llama kind: RMSNorm, rotary positions, grouped-query attention, a gated feed-forward block. Names: Transformers' modeling_llama.py and
 * those made after it. A family is its traits (`DecoderTraits`). */
import { gatedGelu, swiglu } from '../autograd/ops/activation.ts'
import { add } from '../autograd/ops/pointwise.ts'
import type { Network } from '../nn/network.ts'
import type { Tensor } from '../tensor/graph.ts'
import { type DecoderConfig, type DecoderTraits, readDecoder } from './decoder_config.ts'
import { ggufConfig, ggufName } from './decoder_gguf.ts'
import { linearParam, type ModelFamily, type Param } from './family.ts'

const layer = (i: number): string => `model.layers.${i}`

function params(traits: DecoderTraits, c: DecoderConfig): Param[] {
  const { hiddenSize: C, intermediateSize: F, headDim, biases } = c
  const vector = (name: string, size = C): Param => ({ kind: 'vector', name: `${name}.weight`, size })
  const [queries, keys] = [c.heads * headDim, c.kvHeads * headDim]
  const out: Param[] = [{ kind: 'table', name: 'model.embed_tokens.weight', rows: c.vocabSize, cols: C, use: 'embedding' }]
  for (let i = 0; i < c.layers; i++) {
    const [attn, mlp] = [`${layer(i)}.self_attn`, `${layer(i)}.mlp`]
    out.push(vector(`${layer(i)}.input_layernorm`))
    if (traits.fused) out.push(linearParam(`${attn}.qkv_proj`, `${attn}.qkv`, queries + 2 * keys, C, biases.qkv))
    else
      out.push(
        linearParam(`${attn}.q_proj`, `${attn}.qkv`, queries, C, biases.qkv),
        linearParam(`${attn}.k_proj`, `${attn}.qkv`, keys, C, biases.qkv),
        linearParam(`${attn}.v_proj`, `${attn}.qkv`, keys, C, biases.qkv),
      )
    if (traits.headNorms) out.push(vector(`${attn}.q_norm`, headDim), vector(`${attn}.k_norm`, headDim))
    out.push(linearParam(`${attn}.o_proj`, `${attn}.o`, C, queries, biases.output), vector(`${layer(i)}.post_attention_layernorm`))
    if (traits.postNorms) out.push(vector(`${layer(i)}.pre_feedforward_layernorm`), vector(`${layer(i)}.post_feedforward_layernorm`))
    if (traits.fused) out.push(linearParam(`${mlp}.gate_up_proj`, `${mlp}.gate_up`, 2 * F, C, biases.mlp))
    else
      out.push(
        linearParam(`${mlp}.gate_proj`, `${mlp}.gate_up`, F, C, biases.mlp),
        linearParam(`${mlp}.up_proj`, `${mlp}.gate_up`, F, C, biases.mlp),
      )
    out.push(linearParam(`${mlp}.down_proj`, `${mlp}.down`, C, F, biases.mlp))
  }
  out.push(vector('model.norm'))
  if (!c.tied) out.push({ kind: 'table', name: 'lm_head.weight', rows: c.vocabSize, cols: C, use: 'head' })
  return out
}

/** One layer over its input h. */
function block(traits: DecoderTraits, net: Network, c: DecoderConfig, i: number, h: Tensor): Tensor {
  const [attn, mlp] = [`${layer(i)}.self_attn`, `${layer(i)}.mlp`]
  const norm = (x: Tensor, name: string): Tensor => net.rmsNorm(x, `${layer(i)}.${name}.weight`)
  const gated = (x: Tensor): Tensor => {
    const gateUp = net.linear(x, `${mlp}.gate_up`)
    return c.activation === 'silu' ? swiglu(gateUp) : gatedGelu(gateUp, 'tanh')
  }
  const qkv = net.linear(norm(h, 'input_layernorm'), `${attn}.qkv`)
  const mixed = net.attention(traits.headNorms ? net.headNorms(qkv, attn) : qkv, i, c.attention[i])
  if (!traits.postNorms) {
    const y = net.linear(mixed, `${attn}.o`, h)
    return net.linear(gated(norm(y, 'post_attention_layernorm')), `${mlp}.down`, y)
  }
  const y = add(norm(net.linear(mixed, `${attn}.o`), 'post_attention_layernorm'), h)
  return add(norm(net.linear(gated(norm(y, 'pre_feedforward_layernorm')), `${mlp}.down`), 'post_feedforward_layernorm'), y)
}

export function decoder(traits: DecoderTraits): ModelFamily<DecoderConfig> {
  return {
    id: traits.id,
    title: traits.title,
    architectures: [traits.architecture],
    modelTypes: [traits.modelType],
    gguf: [traits.gguf],
    readConfig: (config) => readDecoder(traits, config),
    ggufConfig: (metadata, tensorNames) => ggufConfig(traits, metadata, tensorNames),
    ggufName: (name) => ggufName(traits, name),
    ggufRowOrder: (name, c) => traits.ggufRowOrder?.(name, c) ?? null,
    // convert_hf_to_gguf.py adds the 1 of "1 + weight" to Gemma's norms.
    ggufShift: (name) => (traits.onePlusNorms && name.endsWith('norm.weight') ? 1 : 0),
    params: (c) => params(traits, c),
    // Llama 2's first files have the frequencies of its rotary positions, which follow from the config.
    holdsNoWeights: (name) => name.endsWith('.rotary_emb.inv_freq') || traits.ggufMetadata?.includes(name) === true,
    forward: (net, c) => {
      const x = net.blocks(net.embed({ scale: c.embedScale ?? 1 }), c.layers, (h, i) => block(traits, net, c, i, h))
      return net.rmsNorm(x, 'model.norm.weight')
    },
  }
}
