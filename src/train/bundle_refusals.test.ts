/** What a model's files hold beside its weights: biases of a GGUF file that its metadata do not tell of, buffers and heads that may be there, and what is refused. */
import { describe, expect, test } from 'vitest'
import { caseFiles } from '../../test/family_golden.ts'
import { relative } from '../../test/gpu.ts'
import { logitsOf, onGpu, tinyBundle, tinyFiles } from '../../test/tiny.ts'
import { ModelError } from '../errors.ts'
import { type ModelFiles, openModel } from '../io/model_files.ts'
import { gatherRows } from '../io/repack.ts'
import type { StoredTensor } from '../io/source.ts'
import { fromBytes } from '../io/sources.ts'
import type { Json } from '../models/family.ts'
import { type ModelBundle, openBundle } from './bundle.ts'

/** A tiny Llama as llama.cpp's converter writes it: its names, and rows of q and k in its rotary order. */
async function asGguf(bundle: ModelBundle): Promise<ModelFiles & { kind: 'gguf' }> {
  const { config: c, family, files } = bundle
  const metadata = new Map<string, string | number>([
    ['general.architecture', 'llama'],
    ['llama.vocab_size', c.vocabSize],
    ['llama.embedding_length', c.hiddenSize],
    ['llama.feed_forward_length', c.intermediateSize],
    ['llama.block_count', c.layers],
    ['llama.attention.head_count', c.heads],
    ['llama.attention.head_count_kv', c.kvHeads],
    ['llama.attention.layer_norm_rms_epsilon', c.normEps],
    ['llama.context_length', c.context],
  ])
  const tensors = new Map<string, StoredTensor>()
  for (const t of files.tensors.values()) {
    const name = family.ggufName(t.name)
    let bytes = await t.source.read(t.offset, t.bytes)
    const order = family.ggufRowOrder(t.name, c)
    if (order) {
      const inverse = new Uint32Array(order.length)
      order.forEach((from, to) => (inverse[from] = to))
      bytes = gatherRows(bytes, t.bytes / t.shape[0], inverse)
    }
    tensors.set(name, { ...t, name, source: fromBytes(name, bytes), offset: 0 })
  }
  return { ...files, kind: 'gguf', config: null, gguf: metadata, tensors }
}
const without = (files: ModelFiles & { kind: 'gguf' }, ...ends: string[]): ModelFiles => ({
  ...files,
  tensors: new Map([...files.tensors].filter(([name]) => !ends.some((e) => name.endsWith(e)))),
})

/** The tensors of a model, and others of 4 numbers with these names. */
function withTensors(names: readonly string[], files: ModelFiles): ModelFiles {
  const extra = names.map((name) => [name, { name, type: 'F32', shape: [4], source: fromBytes(name, new Uint8Array(16)), offset: 0, bytes: 16 }] as const) // prettier-ignore
  return { ...files, tensors: new Map<string, StoredTensor>([...files.tensors, ...extra]) }
}
const tiny = (fields: Json = {}): Promise<ModelFiles> => openModel(tinyFiles(fields), 'tiny')

describe('biases of a GGUF file', () => {
  test.each([
    ['attention', { attention_bias: true }],
    ['attention and feed-forward', { attention_bias: true, mlp_bias: true }],
    ['none', {}],
  ])('%s: the same logits as from safetensors', async (_, fields) => {
    const reference = await tinyBundle(fields)
    const bundle = openBundle(await asGguf(reference))
    expect(bundle.config.architecture).toBe('LlamaForCausalLM')
    expect(bundle.rawConfig).toMatchObject(fields)
    expect(bundle.params).toEqual(reference.params)
    const [a, b] = [await onGpu(reference, null), await onGpu(bundle, null)]
    expect(relative(await logitsOf(b, [3, 9, 4]), await logitsOf(a, [3, 9, 4]))).toBeLessThan(1e-6)
    for (const t of [a, b]) t.destroy()
  })
  test('on some layers of a kind only are refused', async () => {
    const files = await asGguf(await tinyBundle({ attention_bias: true, mlp_bias: true }))
    expect(() => openBundle(without(files, 'attn_output.bias'))).toThrow(ModelError)
    expect(() => openBundle(without(files, 'attn_output.bias'))).toThrow(
      /6 of its tensors are not part of a Llama model with this config: blk\.0\.attn_k\.bias, .* and 3 more/,
    )
    expect(() => openBundle(without(files, 'blk.1.ffn_up.bias'))).toThrow(/blk\.1\.ffn_up\.bias: the tensor is missing/)
  })
})

describe('tensors beside those of the model', () => {
  test.each([
    ['frequencies of rotary positions', ['model.layers.0.self_attn.rotary_emb.inv_freq'], {}],
    ['the head of a tied model', ['lm_head.weight'], {}],
    ["a value head, which is not the model's", ['v_head.summary.weight'], {}],
  ])('%s are no reason to refuse it', async (_, names, fields) => {
    openBundle(withTensors(names, await tiny(fields)))
  })
  test.each([
    ['biases that the config does not tell of', ['model.layers.0.self_attn.q_proj.bias', 'model.layers.0.mlp.up_proj.bias'], {}],
    ['norms on heads', ['model.layers.1.self_attn.q_norm.weight'], {}],
    ['a layer that the config does not count', ['model.layers.2.input_layernorm.weight'], {}],
    ['a bias on the head', ['lm_head.bias'], { tie_word_embeddings: false }],
  ])('%s are refused by name', async (_, names, fields) => {
    const files = withTensors(names, await tiny(fields))
    expect(() => openBundle(files)).toThrow(ModelError)
    expect(() => openBundle(files)).toThrow(
      `tiny: ${names.length} of its tensors are not part of a Llama model with this config: ${names.join(', ')}.`,
    )
  })
  test.each(['rope_factors_long.weight', 'output_norm.bias', 'blk.0.attn_sinks.weight'])('%s of a GGUF file is refused', async (name) => {
    const files = withTensors([name], await asGguf(await tinyBundle()))
    expect(() => openBundle(files)).toThrow(`1 of its tensors are not part of a Llama model with this config: ${name}. `)
    expect(() => openBundle(files)).toThrow(/Use the safetensors form/)
  })
  test("GPT-2's masks, under either name, are no reason to refuse it; a bias of another name is", async () => {
    for (const rename of [(n: string) => n, (n: string) => n.replace('transformer.', '')]) {
      const files = await openModel(await caseFiles('gpt2', 0, rename), 'golden')
      const at = rename('transformer.h.1')
      openBundle(withTensors([`${at}.attn.bias`, `${at}.attn.masked_bias`, 'lm_head.weight'], files))
      const name = `${at}.crossattention.q_attn.weight`
      const wrong = withTensors([name], files)
      expect(() => openBundle(wrong)).toThrow(`1 of its tensors are not part of a GPT-2 model with this config: ${name}.`)
    }
  })
})

describe('checkpoints of packed weights', () => {
  test.each([
    [{ quant_method: 'bitsandbytes', load_in_4bit: true }, 'bitsandbytes'],
    [{ load_in_8bit: true }, 'bitsandbytes'],
    [{ quant_method: 'gptq', bits: 4 }, 'GPTQ'],
    [{ quant_method: 'awq' }, 'AWQ'],
    [{ quant_method: 'fp8' }, 'FP8'],
    [{ quant_method: 'compressed-tensors' }, 'compressed-tensors'],
    [{}, 'an unnamed method'],
  ])('%j are refused by name, with what to do instead', async (quantization_config, name) => {
    const files = await tiny({ quantization_config })
    expect(() => openBundle(files)).toThrow(ModelError)
    expect(() => openBundle(files)).toThrow(`config.json, quantization_config: the weights are quantised by ${name}.`)
    expect(() => openBundle(files)).toThrow(/repository that the model was quantised from.*GGUF/)
  })
  test('a config that says that there are none is read', async () => {
    openBundle(await tiny({ quantization_config: null }))
  })
})
