/** GPT-2 against Transformers and PEFT (test/golden/absolute_models.py; tolerances in test/family_golden.ts), the layouts its files come in, and configs that make none. */
import { describe, expect, test } from 'vitest'
import { caseBundle, caseFiles, casesOf, logitsError, testFamily } from '../../test/family_golden.ts'
import { goldenBytes } from '../../test/files.ts'
import { gpu } from '../../test/gpu.ts'
import { filesOf, onGpu, RUN } from '../../test/tiny.ts'
import { ModelError, OptionError } from '../errors.ts'
import { openModel } from '../io/model_files.ts'
import { readSafetensors } from '../io/safetensors.ts'
import { fromBytes } from '../io/sources.ts'
import { lora } from '../peft/lora.ts'
import { openBundle } from '../train/bundle.ts'
import { adapterFiles, modelFiles } from '../train/export.ts'
import { Generator } from '../train/generator.ts'
import { Trainer } from '../train/trainer.ts'
import { gpt2 } from './gpt2.ts'
import { familyOf } from './registry.ts'

testFamily('gpt2')

const [first] = casesOf('gpt2')
const logits = first.rows.map((r) => r.logits)

describe('layouts of its files', () => {
  test('names without the prefix, as the headless model writes them', async () => {
    const files = await caseFiles('gpt2', 0, (name) => name.replace('transformer.', ''))
    const t = await onGpu(openBundle(await openModel(files, 'golden')), null)
    expect(await logitsError(t, first, logits)).toBeLessThan(2e-5)
    t.destroy()
  })
  test('GGUF', async () => {
    const bundle = openBundle(await openModel(new Map([['gpt2.gguf', fromBytes('gpt2.gguf', goldenBytes('models/gpt2.gguf'))]])))
    expect(bundle.family).toBe(gpt2)
    const { config } = await caseBundle('gpt2', 0)
    const rest = { normEps: 0, bosId: null, eosIds: [] }
    expect({ ...bundle.config, ...rest }).toEqual({ ...config, ...rest })
    expect(bundle.config.normEps).toBeCloseTo(1e-5, 10)
    const t = await onGpu(bundle, null)
    expect(await logitsError(t, first, logits)).toBeLessThan(2e-5)
    t.destroy()
  })
  test('quantised on load, through the transpose', async () => {
    const bundle = await caseBundle('gpt2', 0)
    // Rounding of a weight: 2^-11, 1/254 and about 1/10 of a block's largest.
    for (const [base, most] of [
      ['f16', 2e-3],
      ['q8', 2e-2],
      ['nf4', 0.3],
    ] as const) {
      // prettier-ignore
      const t = await onGpu(bundle, null, {}, { base })
      const error = await logitsError(t, first, logits)
      t.destroy()
      expect(error, base).toBeLessThan(most)
      expect(error, base).toBeGreaterThan(most / 100)
    }
  })
  test('a merged model is written with names and layouts of Transformers, and is the same model', async () => {
    const bundle = await caseBundle('gpt2', 0)
    const t = await onGpu(bundle, lora, {})
    const files = await filesOf(
      modelFiles(bundle, { adapter: t.adapter!, state: await t.adapter!.params.read() }, { baseModel: 'm', manifest: null }),
    )
    const { tensors } = await readSafetensors(files.get('model.safetensors')!)
    expect(tensors.get('transformer.h.0.attn.c_attn.weight')!.shape).toEqual([32, 96])
    expect(tensors.get('transformer.h.1.mlp.c_proj.weight')!.shape).toEqual([128, 32])
    const again = await onGpu(openBundle(await openModel(files, 'golden')), null)
    expect(await logitsError(again, first, logits)).toBeLessThan(2e-5)
    for (const u of [t, again]) u.destroy()
  })
  test('an adapter says that its layers are Conv1D, and names them so that no other is meant', async () => {
    const bundle = await caseBundle('gpt2', 0)
    const config = async (target_modules: readonly string[]): Promise<Record<string, unknown>> => {
      const t = await onGpu(bundle, lora, { target_modules })
      const files = await adapterFiles(t.adapter!, await t.adapter!.params.read(), { baseModel: 'm', seed: 0, manifest: null })
      t.destroy()
      const json = files.find((f) => f.name === 'adapter_config.json')!
      return JSON.parse('data' in json ? String(json.data) : '') as Record<string, unknown>
    }
    expect(await config(['c_attn'])).toMatchObject({ fan_in_fan_out: true, target_modules: ['c_attn'] })
    expect((await config(['c_attn', 'c_proj', 'c_fc'])).target_modules).toEqual(['c_attn', 'c_fc', 'c_proj'])
    // Two kinds of layers are called c_proj.
    expect((await config(['mlp.c_proj'])).target_modules).toEqual(['transformer.h.0.mlp.c_proj', 'transformer.h.1.mlp.c_proj'])
  })
})

describe('positions beyond the last', () => {
  test('are refused for rows and for text', async () => {
    const bundle = await caseBundle('gpt2', 0)
    const t = await onGpu(bundle, lora)
    await expect(Trainer.create(gpu, t, { ...RUN, seq: 41 })).rejects.toThrow(OptionError)
    await expect(Trainer.create(gpu, t, { ...RUN, seq: 41 })).rejects.toThrow(/41 tokens.*40 positions/)
    const generator = await Generator.create(gpu, t, { capacity: 64 })
    const ids = Array.from({ length: 41 }, (_, i) => i)
    await expect(generator.logits(ids)).rejects.toThrow(/41 tokens do not fit 40/)
    const { ids: made, stopped } = await generator.generate(ids.slice(0, 37), {
      maxTokens: 20,
      stopIds: [],
      temperature: 0,
      topK: 0,
      topP: 1,
      seed: 0,
    })
    // The fourth is read off position 39, the last.
    expect([made.length, stopped]).toEqual([4, 'length'])
    generator.destroy()
    t.destroy()
  })
})

describe('configs that make no GPT-2', () => {
  const base = first.config
  test.each([
    ['heads that do not divide the width', { n_head: 5 }, /n_embd 32 is not a multiple of 5 heads/],
    ['heads of odd size', { n_embd: 36, n_head: 6 }, /heads of 6 numbers/],
    ['an inner width of odd size', { n_inner: 43 }, /n_inner 43 must be a multiple of 4/],
    ['half a layer', { n_layer: 1.5 }, /n_layer is 1.5/],
    ['an unknown activation', { activation_function: 'swish' }, /activation_function "swish" is not supported.*gelu_new/],
    ['an encoder to attend to', { add_cross_attention: true }, /add_cross_attention is on/],
    ['no epsilon', { layer_norm_epsilon: 0 }, /layer_norm_epsilon is 0/],
    ['no positions', { n_positions: 0 }, /n_positions is 0/],
  ])('%s', (_, fields, message) => {
    const config = { ...base, ...fields }
    expect(() => familyOf(config).readConfig(config)).toThrow(ModelError)
    expect(() => familyOf(config).readConfig(config)).toThrow(message)
  })
  test('general names of fields are taken, as Transformers takes them', () => {
    const { n_embd, n_head, n_layer, n_positions, ...rest } = base
    const config = {
      ...rest,
      hidden_size: n_embd,
      num_attention_heads: n_head,
      num_hidden_layers: n_layer,
      max_position_embeddings: n_positions,
    }
    expect(gpt2.readConfig(config)).toEqual(gpt2.readConfig(base))
  })
})
