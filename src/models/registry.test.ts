/** Configs that look like those of a family and are another's, fields that change what a family computes, and what is taken for fields that are left out. */
import { describe, expect, test } from 'vitest'
import { casesOf } from '../../test/family_golden.ts'
import { ModelError } from '../errors.ts'
import type { Json } from './family.ts'
import { familyOf, familyOfGguf } from './registry.ts'

const base = (id: string): Json => casesOf(id)[0].config
const read = (config: Json) => familyOf(config).readConfig(config)

describe('relatives that are not known here', () => {
  test.each([
    ['Qwen2MoeForCausalLM', 'qwen2_moe'],
    ['Qwen3MoeForCausalLM', 'qwen3_moe'],
    ['Qwen2VLForConditionalGeneration', 'qwen2_vl'],
    ['Gemma3nForConditionalGeneration', 'gemma3n'],
    ['Gemma3ForConditionalGeneration', 'gemma3'],
    ['GemmaForCausalLM', 'gemma'],
    ['PhiMoEForCausalLM', 'phimoe'],
  ])('%s is refused, by its architecture and by its model type', (architecture, model_type) => {
    for (const config of [{ architectures: [architecture], model_type }, { model_type }]) {
      expect(() => familyOf(config)).toThrow(ModelError)
      expect(() => familyOf(config)).toThrow(/is not supported.*Use a model of one of: .*Gemma3ForCausalLM/)
    }
  })
  test.each(['qwen2moe', 'qwen2vl', 'gemma', 'gemma3n', 'phi2', 'phimoe'])('%s of GGUF is refused', (architecture) => {
    expect(() => familyOfGguf(architecture)).toThrow(`general.architecture: the GGUF architecture "${architecture}" is not supported`)
  })
})

describe('fields that make another model of it', () => {
  test.each([
    ['qwen2', { rope_scaling: { type: 'mrope', mrope_section: [2, 1, 1] } }, /rope_scaling\.rope_type: rotary scaling "mrope"/],
    ['qwen2', { hidden_act: 'gelu' }, /hidden_act "gelu" is not supported/],
    ['qwen3', { hidden_act: 'gelu_pytorch_tanh' }, /hidden_act "gelu_pytorch_tanh" is not supported/],
    ['phi3', { hidden_act: 'gelu' }, /hidden_act "gelu" is not supported/],
    ['gemma3', { hidden_activation: 'silu' }, /hidden_activation "silu" is not supported/],
    ['gemma2', { use_bidirectional_attention: true }, /use_bidirectional_attention is on/],
    ['gemma3', { use_bidirectional_attention: true }, /use_bidirectional_attention is on/],
    ['gemma3', { rope_parameters: { rope_type: 'linear', rope_theta: 1e6, factor: 8 } }, /rope_parameters has the fields rope_type, rope_/],
  ])('%s: %j', (id, fields, message) => {
    expect(() => read({ ...base(id), ...fields })).toThrow(ModelError)
    expect(() => read({ ...base(id), ...fields })).toThrow(message)
  })
})

describe('windows', () => {
  test.each([
    ['Qwen2 that names none', 'qwen2', { sliding_window: undefined }, [0, 4096]],
    ['Qwen2 without', 'qwen2', { sliding_window: null }, [0, 0]],
    ['Qwen2 of 7', 'qwen2', { sliding_window: 7 }, [0, 7]],
    ['Qwen3 without', 'qwen3', { sliding_window: null }, [0, 0]],
    ['Qwen2 that does not use them', 'qwen2', { sliding_window: 7, use_sliding_window: false }, [0, 0]],
  ])('%s', (_, id, fields, windows) => {
    const config = read({ ...base(id), use_sliding_window: true, max_window_layers: 1, ...fields })
    expect(config).toMatchObject({ attention: windows.map((window) => ({ window })) })
  })
  test.each([
    ['the general pattern', {}, [4, 4, 4, 4, 4, 0, 4]],
    ['its own', { sliding_window_pattern: 3 }, [4, 4, 0, 4, 4, 0, 4]],
    // Transformers writes this field with layer_types, and reads only those.
    ['one that is not read', { _sliding_window_pattern: 3 }, [4, 4, 4, 4, 4, 0, 4]],
    [
      'types of layers before any pattern',
      {
        _sliding_window_pattern: 6,
        sliding_window_pattern: 6,
        layer_types: Array.from('0100110', (c) => (c === '1' ? 'sliding_attention' : 'full_attention')),
      },
      [0, 4, 0, 0, 4, 4, 0],
    ],
  ])('of Gemma 3 by %s', (_, fields, windows) => {
    const config = { ...base('gemma3'), sliding_window_pattern: undefined, num_hidden_layers: 7, ...fields }
    expect(read(config)).toMatchObject({ attention: windows.map((window) => ({ window, rope: window ? 1 : 0 })) })
  })
})

test('tokens of OPT that a config leaves out are those of OPTConfig, and those that it says are null are none', () => {
  const { pad_token_id: _, bos_token_id: __, eos_token_id: ___, ...rest } = base('opt')
  expect(read(rest)).toMatchObject({ paddingId: 1, bosId: 2, eosIds: [2] })
  expect(read({ ...rest, pad_token_id: null, bos_token_id: 5, eos_token_id: [6, 7] })).toMatchObject({
    paddingId: null,
    bosId: 5,
    eosIds: [6, 7],
  })
})
