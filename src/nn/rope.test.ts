/** @file Frequencies against transformers/modeling_rope_utils.py (test/golden/rope.py).
 * Tolerance 1e-6 relative: float32 on both sides, with a pow and up to six roundings of 6e-8 each. */
import { describe, expect, it } from 'vitest'
import { goldenJson } from '../../test/files.ts'
import { closeness } from '../../test/gpu.ts'
import { ModelError } from '../errors.ts'
import { readRope, ropeFrequencies } from './rope.ts'

interface Case {
  config: Record<string, unknown>
  headDim: number
  sequenceLength: number | null
  invFreq: number[]
  attentionFactor: number
}
const { frequencies } = goldenJson('rope.json') as { frequencies: Case[] }

describe('frequencies of Transformers', () => {
  it.each(
    frequencies.map((c) => [JSON.stringify(c.config.rope_parameters ?? c.config.rope_scaling ?? null), c.sequenceLength, c] as const),
  )('%s, length %s', (_, __, c) => {
    const got = ropeFrequencies(readRope(c.config, c.headDim), c.sequenceLength ?? undefined)
    expect(closeness(got.invFreq, c.invFreq, 1e-6, 0)).toBeLessThan(1)
    expect(got.attentionFactor).toBeCloseTo(c.attentionFactor, 12)
  })
})

describe('a config that cannot be followed', () => {
  const bad: [string, Record<string, unknown>, RegExp][] = [
    ['unknown scaling', { rope_scaling: { type: 'spiral' } }, /rope_scaling\.rope_type: rotary scaling "spiral" is not supported/],
    ['missing factor', { rope_parameters: { rope_type: 'linear' } }, /rope_parameters\.factor: missing/],
    ['text for a number', { rope_theta: '10000' }, /rope_theta: expected a number above 0, got "10000"/],
    ['zero factor', { rope_scaling: { type: 'linear', factor: 0 } }, /rope_scaling\.factor: expected a number above 0, got 0/],
    ['no context length', { rope_scaling: { type: 'dynamic', factor: 2 } }, /max_position_embeddings: missing/],
    [
      'empty band',
      { max_position_embeddings: 8, rope_scaling: { type: 'llama3', factor: 2, low_freq_factor: 4, high_freq_factor: 4 } },
      /must be above low_freq_factor/,
    ],
    [
      'lists of another length',
      { original_max_position_embeddings: 8, rope_scaling: { type: 'su', short_factor: [1, 2], long_factor: [1, 2] } },
      /rope_scaling\.short_factor: 2 numbers for 32 rotated pairs/,
    ],
    [
      'a list in words',
      { original_max_position_embeddings: 8, rope_scaling: { type: 'longrope', short_factor: ['1'], long_factor: [1] } },
      /short_factor: expected a list of numbers/,
    ],
    ['no list', { rope_scaling: { type: 'longrope', short_factor: [1] } }, /long_factor: missing, and longrope scaling needs it/],
    ['settings per layer type', { rope_parameters: { full_attention: { rope_theta: 1e6 } } }, /differ between layers/],
  ]
  it.each(bad)('%s', (_, config, message) => {
    expect(() => readRope(config, 64, 'config.json')).toThrow(ModelError)
    expect(() => readRope(config, 64, 'config.json')).toThrow(message)
  })
})
