/** OPT against Transformers and PEFT (test/golden/absolute_models.py; tolerances in test/family_golden.ts), and configs that make none. */
import { describe, expect, test } from 'vitest'
import { caseBundle, caseFiles, casesOf, logitsError, testFamily } from '../../test/family_golden.ts'
import { gpu } from '../../test/gpu.ts'
import { filesOf, onGpu, RUN } from '../../test/tiny.ts'
import { ModelError } from '../errors.ts'
import { openModel } from '../io/model_files.ts'
import { promptTuning } from '../peft/prompt_tuning.ts'
import { full } from '../peft/full.ts'
import { openBundle } from '../train/bundle.ts'
import { modelFiles } from '../train/export.ts'
import { Trainer } from '../train/trainer.ts'
import { opt } from './opt.ts'
import { familyOf, familyOfGguf } from './registry.ts'

testFamily('opt')

const cases = casesOf('opt')
describe.each(cases.map((c, i) => [c.name, c, i] as const))('%s', (_, c, i) => {
  const logits = c.rows.map((r) => r.logits)
  test('names without the prefix, as the headless model writes them', async () => {
    const files = await caseFiles('opt', i, (name) => name.replace(/^model\./, ''))
    const t = await onGpu(openBundle(await openModel(files, 'golden')), null)
    expect(await logitsError(t, c, logits)).toBeLessThan(2e-5)
    t.destroy()
  })
  test('what full fine-tuning exports is the model again', async () => {
    const bundle = await caseBundle('opt', i)
    const t = await onGpu(bundle, full)
    const files = await filesOf(modelFiles(bundle, { trained: await t.trained!.read() }, { baseModel: 'm', manifest: null }))
    const again = await onGpu(openBundle(await openModel(files, 'golden')), null)
    expect(await logitsError(again, c, logits)).toBeLessThan(2e-5)
    for (const u of [t, again]) u.destroy()
  })
})

test('a prompt is as wide as the embeddings, and takes positions', async () => {
  const bundle = await caseBundle('opt', 1)
  const t = await onGpu(bundle, promptTuning, { num_virtual_tokens: 4 })
  expect(t.adapter!.params.entries.map((e) => e.shape)).toEqual([[4, 20]])
  expect(t.adapter!.config('m')).toMatchObject({ token_dim: 20 })
  await expect(Trainer.create(gpu, t, { ...RUN, seq: 21 })).rejects.toThrow(/25 tokens.*24 positions/)
  t.destroy()
})

describe('configs that make no OPT', () => {
  test.each([
    ['heads that do not divide the width', { num_attention_heads: 5 }, /hidden_size 32 is not a multiple of 5 heads/],
    ['no feed-forward width', { ffn_dim: undefined }, /ffn_dim is missing/],
    ['embeddings of odd width', { word_embed_proj_dim: 30 }, /word_embed_proj_dim 30 must be a multiple of 4/],
    ['norms without weights', { layer_norm_elementwise_affine: false }, /layer_norm_elementwise_affine is false/],
    ['an unknown activation', { activation_function: 'tanh' }, /activation_function "tanh" is not supported/],
  ])('%s', (_, fields, message) => {
    const config = { ...cases[0].config, ...fields }
    expect(() => familyOf(config).readConfig(config)).toThrow(ModelError)
    expect(() => familyOf(config).readConfig(config)).toThrow(message)
  })
  test('llama.cpp has no such architecture', () => {
    expect(() => familyOfGguf('opt')).toThrow(ModelError)
    expect(() => opt.ggufConfig(new Map(), new Set())).toThrow(/llama.cpp has no OPT/)
  })
})
