/** Gemma 2 against Transformers and PEFT (test/golden/decoders.py; tolerances in test/family_golden.ts). */
import { describe, expect, test } from 'vitest'
import { testDecoder } from '../../test/decoder_family.ts'
import { caseBundle, casesOf } from '../../test/family_golden.ts'
import { relative } from '../../test/gpu.ts'
import { onGpu } from '../../test/tiny.ts'
import { ModelError } from '../errors.ts'
import { promptTuning } from '../peft/prompt_tuning.ts'
import { readFloats } from '../train/bundle.ts'
import { gemma2 } from './gemma2.ts'
import { familyOf } from './registry.ts'

testDecoder(gemma2)

test('a prompt starts from what the model reads for tokens, as PEFT starts it', async () => {
  const bundle = await caseBundle('gemma2', 0)
  const t = await onGpu(bundle, promptTuning, { num_virtual_tokens: 2 })
  const { data } = (await t.adapter!.params.read()).get('prompt_embeddings')!
  t.destroy()
  const table = await readFloats(bundle, 'model.embed_tokens.weight', [67, 32])
  const scaled = Array.from({ length: 67 }, (_, id) => table.subarray(32 * id, 32 * id + 32).map((v) => v * Math.sqrt(32)))
  for (const row of [data.subarray(0, 32), data.subarray(32)]) expect(scaled.some((s) => relative(row, s) < 1e-6)).toBe(true)
})

describe('configs that make no Gemma 2', () => {
  const base = casesOf('gemma2')[0].config
  test.each([
    ['a cap below 0', { final_logit_softcapping: -1 }, /final_logit_softcapping is -1, expected a number above 0/],
    ['a window of nothing', { sliding_window: 0 }, /sliding_window is 0/],
    ['a layer too few', { layer_types: ['full_attention'] }, /layer_types .* expected 2 times/],
    ['an unknown kind of layer', { layer_types: ['full_attention', 'chunked_attention'] }, /layer_types .*chunked_attention/],
    ['another activation', { hidden_activation: 'silu' }, /hidden_activation "silu" is not supported/],
  ])('%s', (_, fields, message) => {
    const config = { ...base, ...fields }
    expect(() => familyOf(config).readConfig(config)).toThrow(ModelError)
    expect(() => familyOf(config).readConfig(config)).toThrow(message)
  })
})
