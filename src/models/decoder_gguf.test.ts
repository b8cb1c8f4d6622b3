/** What metadata of GGUF files say of a decoder: what llama.cpp's converter leaves out because its program knows it, and what is refused. */
import { describe, expect, test } from 'vitest'
import { ModelError } from '../errors.ts'
import type { Json } from './family.ts'
import { gemma2 } from './gemma2.ts'
import { gemma3 } from './gemma3.ts'
import { llama } from './llama.ts'
import { phi3 } from './phi3.ts'
import { qwen3 } from './qwen3.ts'

const SIZES = {
  embedding_length: 4096,
  feed_forward_length: 8192,
  block_count: 7,
  'attention.head_count': 32,
  'attention.layer_norm_rms_epsilon': 1e-6,
  context_length: 8192,
}
const FAMILIES = { llama, qwen3, phi3, gemma2, gemma3 } as const
type Id = keyof typeof FAMILIES
/** config.json of a file with these fields under the architecture's prefix, and `others` as they are; and what is read from it. */
function read(id: Id, fields: Json = {}, others: Json = {}) {
  const metadata = new Map<string, unknown>([
    ['tokenizer.ggml.tokens', Array.from({ length: 99 }, (_, i) => `t${i}`)],
    ...Object.entries({ ...SIZES, ...fields }).map(([k, v]) => [`${id}.${k}`, v] as const),
    ...Object.entries(others),
  ])
  const json = FAMILIES[id].ggufConfig(metadata, new Set())
  return { json, config: FAMILIES[id].readConfig(json) }
}
const GEMMA = { 'attention.key_length': 256, 'attention.sliding_window': 512 }

test('the vocabulary is counted where no field says its size', () => {
  expect(read('llama').config.vocabSize).toBe(99)
  expect(read('llama', { vocab_size: 96 }).config.vocabSize).toBe(96)
})

describe('Gemma', () => {
  test.each([
    // Gemma 2 27B has heads of 128 and scales by 4608 / 32, Gemma 3 27B by 5376 / 32; the others by a head's size.
    ['gemma2', { block_count: 46, embedding_length: 4608, 'attention.head_count': 32, 'attention.key_length': 128 }, 144],
    ['gemma2', { block_count: 42, embedding_length: 3584, 'attention.head_count': 16, 'attention.key_length': 256 }, 256],
    ['gemma3', { block_count: 62, embedding_length: 5376, 'attention.head_count': 32, 'attention.key_length': 128 }, 168],
    ['gemma3', { block_count: 48, embedding_length: 3840, 'attention.head_count': 16, 'attention.key_length': 256 }, 256],
  ] as const)('%s, %j: scores are scaled by %d', (id, fields, scalar) => {
    const { json, config } = read(id, fields)
    expect(json.query_pre_attn_scalar).toBe(scalar)
    expect(config).toMatchObject({ attention: expect.arrayContaining([expect.objectContaining({ scale: scalar ** -0.5 })]) as unknown })
  })
  test('Gemma 2 has its caps and its window where the file does not say them', () => {
    const { json, config } = read('gemma2', { 'attention.key_length': 256 })
    expect(json).toMatchObject({ sliding_window: 4096, final_logit_softcapping: 30, attn_logit_softcapping: 50 })
    expect(config).toMatchObject({
      logitSoftcap: 30,
      attention: [0, 1, 2, 3, 4, 5, 6].map((i) => ({ softcap: 50, window: i % 2 ? 0 : 4096 })),
    })
  })
  test.each([
    ['five of six where the file does not say', {}, [512, 512, 512, 512, 512, 0, 512]],
    ['all but every third', { 'attention.sliding_window_pattern': 3 }, [512, 512, 0, 512, 512, 0, 512]],
    [
      'by truth values',
      { 'attention.sliding_window_pattern': [true, false, true, false, true, false, true] },
      [512, 0, 512, 0, 512, 0, 512],
    ],
    ['by numbers', { 'attention.sliding_window_pattern': Int32Array.of(0, 0, 1, 1, 0, 1, 1) }, [0, 0, 512, 512, 0, 512, 512]],
    ['none', { 'attention.sliding_window': undefined }, [0, 0, 0, 0, 0, 0, 0]],
  ])('windows of Gemma 3: %s', (_, fields, windows) => {
    const { config } = read('gemma3', { ...GEMMA, ...fields })
    expect(config).toMatchObject({ attention: windows.map((window) => ({ window, rope: window ? 1 : 0 })) })
  })
})

describe('Phi-3', () => {
  const lists = (pairs: number): Json => ({
    'rope_factors_short.weight': Array.from({ length: pairs }, () => 1),
    'rope_factors_long.weight': Array.from({ length: pairs }, (_, i) => 1 + i),
  })
  test('a part of each head is rotated', () => {
    const fields = { context_length: 131_072, 'rope.scaling.original_context_length': 4096, 'rope.dimension_count': 96 }
    const { json, config } = read('phi3', fields, lists(48))
    expect(json.partial_rotary_factor).toBe(0.75)
    expect(config.ropes[0]).toMatchObject({ rope_type: 'longrope', partial_rotary_factor: 0.75, factor: 32 })
    expect(read('phi3', { 'rope.dimension_count': 128 }).config.ropes[0]).toMatchObject({ rope_type: 'default', partial_rotary_factor: 1 })
  })
  test.each([
    [0, 0],
    [undefined, 0],
    [2047, 2047],
  ])('a window of %s is one of %d', (given, window) => {
    const { config } = read('phi3', { 'rope.dimension_count': 128, 'attention.sliding_window': given })
    expect(config).toMatchObject({ attention: Array.from({ length: 7 }, () => ({ window })) })
  })
  test('LongRoPE needs both of its lists', () => {
    const fields = { 'rope.dimension_count': 128, 'rope.scaling.type': 'longrope' }
    expect(read('phi3', fields, lists(64)).config.ropes[0]).toMatchObject({ rope_type: 'longrope' })
    const one = { 'rope_factors_long.weight': lists(64)['rope_factors_long.weight'] }
    for (const others of [{}, one]) {
      expect(() => read('phi3', fields, others)).toThrow(ModelError)
      expect(() => read('phi3', fields, others)).toThrow(
        /phi3\.rope\.scaling\.type: rotary scaling "longrope" is not supported without its/,
      )
    }
    expect(() => read('phi3', { 'rope.dimension_count': 128 }, one)).toThrow(/short_factor: missing/)
  })
})

describe('scaling of rotary positions', () => {
  test.each([
    [{}, { rope_type: 'default' }],
    [{ 'rope.scaling.type': 'none', 'rope.scaling.factor': 4 }, { rope_type: 'default' }],
    [{ 'rope.scaling.factor': 0 }, { rope_type: 'default' }],
    [
      { 'rope.scaling.type': 'linear', 'rope.scaling.factor': 4 },
      { rope_type: 'linear', factor: 4 },
    ],
    [{ 'rope.scaling.factor': 4 }, { rope_type: 'linear', factor: 4 }],
    [{ 'rope.scale_linear': 2 }, { rope_type: 'linear', factor: 2 }],
    [
      { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4, 'rope.scaling.original_context_length': 2048 },
      { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 2048 },
    ],
  ])('%j', (fields, rope) => {
    expect(read('qwen3', { 'attention.key_length': 128, ...fields }).config.ropes[0]).toMatchObject(rope)
  })
  test.each(['longrope', 'ntk', 7, ''])('%j is refused', (type) => {
    expect(() => read('llama', { 'rope.scaling.type': type })).toThrow(ModelError)
    expect(() => read('llama', { 'rope.scaling.type': type })).toThrow(
      `GGUF, llama.rope.scaling.type: rotary scaling ${JSON.stringify(type)} is not supported`,
    )
  })
})
