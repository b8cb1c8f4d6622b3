/** Adapters that cannot be used: each refused with an AdapterError (FileError for damaged files) that names the field or tensor. */
import { describe, expect, test } from 'vitest'
import { logitsOf, onGpu, tinyBundle } from '../../test/tiny.ts'
import { relative } from '../../test/gpu.ts'
import { AdapterError, FileError, OptionError } from '../errors.ts'
import { adapterConfigJson, readAdapter } from '../io/adapter_files.ts'
import { fromFloat32 } from '../io/dequantize.ts'
import { writeSafetensors } from '../io/safetensors_writer.ts'
import { fromBytes } from '../io/sources.ts'
import type { Json } from '../peft/method.ts'
import { METHODS } from '../peft/registry.ts'
import { Adapter } from './adapter.ts'
import { adapterFiles } from './export.ts'
import { methodOf } from './load_adapter.ts'
import { type LoadedAdapter, openAdapter } from './tunable.ts'

interface Tensor {
  readonly name: string
  readonly type: 'F32' | 'F16'
  readonly shape: readonly number[]
  readonly data: ArrayBufferView
}
const bundle = await tinyBundle()
const LORA: Json = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj', 'v_proj'], base_model_name_or_path: 'tiny' }
const KEY = 'base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight'

/** Tensors of a LoRA of rank 2 on q and v. */
function loraTensors(o: { width?: number } = {}): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>()
  for (const i of [0, 1])
    for (const [name, out] of [
      ['q_proj', 32],
      ['v_proj', 16],
    ] as const)
      for (const [part, shape] of [
        ['A', [2, o.width ?? 32]],
        ['B', [out, 2]],
      ] as const) {
        const key = `base_model.model.model.layers.${i}.self_attn.${name}.lora_${part}.weight`
        tensors.set(key, { name: key, type: 'F32', shape, data: new Float32Array(shape[0] * shape[1]).fill(0.1) })
      }
  return tensors
}
const bytesOf = (tensors: ReadonlyMap<string, Tensor>) => writeSafetensors(tensors.values())
async function open(config: Json, weights: Uint8Array = bytesOf(loraTensors())): Promise<LoadedAdapter> {
  const text = new TextEncoder().encode(adapterConfigJson(config))
  const files = new Map([
    ['adapter_config.json', fromBytes('adapter_config.json', text)],
    ['adapter_model.safetensors', fromBytes('adapter_model.safetensors', weights)],
  ])
  return openAdapter(bundle, await readAdapter(files))
}
/** The refusal, which must say where, why and what to do. */
async function refusal(opening: Promise<unknown>): Promise<AdapterError> {
  const error = await opening.then(
    () => null,
    (e: unknown) => e,
  )
  expect(error).toBeInstanceOf(AdapterError)
  const e = error as AdapterError
  expect([e.where, e.fix].every((s) => s !== undefined && s.length > 5)).toBe(true)
  return e
}
const changed = (change: (t: Map<string, Tensor>) => void): Uint8Array => {
  const tensors = loraTensors()
  change(tensors)
  return bytesOf(tensors)
}

test('the adapter that the cases below break is usable', async () => {
  const loaded = await open(LORA)
  expect(loaded.method.id).toBe('lora')
  expect(loaded.targets).toHaveLength(4)
  expect(loaded.notes).toEqual([])
  expect((await open({ ...LORA, base_model_name_or_path: 'acme/other' })).notes[0]).toContain('acme/other')
})

describe('tensors', () => {
  test.each([7, 100, -4])('a file cut off at byte %i', async (at) => {
    const whole = bytesOf(loraTensors())
    const cut = open(LORA, whole.slice(0, at < 0 ? whole.length + at : at))
    await expect(cut).rejects.toThrow(FileError)
    await expect(cut).rejects.toThrow(/adapter_model\.safetensors/)
  })
  test.each([
    [
      'another rank than its config',
      { ...LORA, r: 4 },
      undefined,
      /layers\.0\.self_attn\.q_proj\.lora_A\.weight: the shape is \[2, 32\], this model and config need \[4, 32\]/,
    ],
    ['a missing B', LORA, changed((t) => void t.delete(KEY)), new RegExp(`the tensor ${KEY} is missing`)],
    ['a model of another width', LORA, bytesOf(loraTensors({ width: 48 })), /the shape is \[2, 48\], this model and config need \[2, 32\]/],
    [
      'a model with more layers',
      LORA,
      changed((t) => void t.set('x', { ...t.get(KEY)!, name: KEY.replace('layers.1', 'layers.9') })),
      /layers\.9\.self_attn\.v_proj\.lora_B\.weight has no place in this model/,
    ],
    [
      'a model of another architecture',
      LORA,
      bytesOf(
        new Map([
          [
            'x',
            { name: 'base_model.model.transformer.h.0.attn.c_attn.lora_A.weight', type: 'F32', shape: [2, 32], data: new Float32Array(64) },
          ],
        ]),
      ),
      /c_attn\.lora_A\.weight has no place/,
    ],
    ['DoRA without its magnitudes', { ...LORA, use_dora: true }, undefined, /lora_magnitude_vector is missing/],
    [
      'an embedding update',
      LORA,
      changed((t) => void t.set('x', { ...t.get(KEY)!, name: 'base_model.model.model.embed_tokens.lora_embedding_A', shape: [16, 2] })),
      /lora_embedding_A has no place/,
    ],
  ] as const)('%s', async (_, config, weights, message) => {
    const e = await refusal(open(config, weights))
    expect(e.message).toMatch(message)
    expect(e.where).toMatch(/^adapter_model\.safetensors/)
  })
  test.each([
    ['F32', NaN],
    ['F16', Infinity],
  ] as const)('a %s tensor with %s in it', async (type, bad) => {
    const weights = changed((t) => {
      const values = new Float32Array(32).fill(0.5)
      values[5] = bad
      t.set(KEY, { ...t.get(KEY)!, type, data: fromFloat32(type, values) })
    })
    expect((await refusal(open(LORA, weights))).message).toContain(`${KEY}: element 5 is ${bad}`)
  })
  test('a prompt of another model, or none', async () => {
    const prompt = { peft_type: 'PROMPT_TUNING', num_virtual_tokens: 3, token_dim: 32 }
    const t = (shape: readonly number[]): Uint8Array =>
      writeSafetensors([{ name: 'prompt_embeddings', type: 'F32', shape, data: new Float32Array(shape[0] * shape[1]) }])
    expect((await open(prompt, t([3, 32]))).method.id).toBe('prompt-tuning')
    expect((await refusal(open(prompt, t([3, 48])))).message).toMatch(/prompt_embeddings: the shape is \[3, 48\]/)
    expect((await refusal(open(prompt, t([4, 32])))).message).toMatch(/\[4, 32\], this model and config need \[3, 32\]/)
    expect((await refusal(open(prompt))).message).toMatch(/the tensor prompt_embeddings is missing/)
  })
})

describe('config', () => {
  test.each([
    ['peft_type', 'FROBNICATE', /peft_type "FROBNICATE" is not supported/],
    ['peft_type', undefined, /peft_type null is not supported/],
    ['bias', 'all', /bias = "all" is not supported/],
    ['bias', 'lora_only', /bias = "lora_only"/],
    ['modules_to_save', ['lm_head'], /modules_to_save = \["lm_head"\]/],
    ['rank_pattern', { q_proj: 4 }, /rank_pattern = \{"q_proj":4\}/],
    ['alpha_pattern', { q_proj: 4 }, /alpha_pattern/],
    ['use_qalora', true, /use_qalora = true/],
    ['use_bdlora', { nblocks: 2 }, /use_bdlora/],
    ['lora_bias', true, /lora_bias = true/],
    ['layer_replication', [[0, 2]], /layer_replication/],
    ['target_parameters', ['mlp.experts'], /target_parameters/],
    ['trainable_token_indices', [1, 2], /trainable_token_indices/],
    ['alora_invocation_tokens', [1], /alora_invocation_tokens/],
    ['init_lora_weights', 'corda', /init_lora_weights = "corda" is not supported/],
    ['init_lora_weights', 'loftq', /init_lora_weights = "loftq"/],
    ['init_lora_weights', 'lora_ga', /init_lora_weights = "lora_ga"/],
    ['lora_alpha', 'sixteen', /lora_alpha must be a number, got "sixteen"/],
    ['lora_alpha', -1, /adapter_config\.json, alpha: got -1/],
    ['r', 0, /adapter_config\.json, r: got 0, expected a whole number/],
    ['r', 2.5, /adapter_config\.json, r: got 2.5/],
  ])('%s = %j', async (field, value, message) => {
    const e = await refusal(open({ ...LORA, [field]: value }))
    expect(e.message).toMatch(message)
    expect(e.where).toMatch(/^adapter_config\.json/)
  })
  test('(IA)³ with an expression for its feed-forward modules', async () => {
    expect((await refusal(open({ peft_type: 'IA3', target_modules: ['k_proj'], feedforward_modules: '.*down_proj' }))).message).toMatch(
      /feedforward_modules = "\.\*down_proj"/,
    )
    expect((await refusal(open({ peft_type: 'IA3', target_modules: ['k_proj'], modules_to_save: ['x'] }))).message).toMatch(
      /modules_to_save/,
    )
  })
  test.each([0, -1, 2.5, '5', undefined])('a prompt of %s tokens', async (num_virtual_tokens) => {
    expect((await refusal(open({ peft_type: 'PROMPT_TUNING', num_virtual_tokens }))).message).toMatch(/num_virtual_tokens/)
  })
  test.each([[true], [false], ['gaussian'], ['eva'], ['orthogonal'], ['mica'], [null]])(
    'init_lora_weights = %j left the model as it was, and is accepted',
    async (init_lora_weights) => {
      expect((await open({ ...LORA, init_lora_weights })).options.init_lora_weights).toBe('true')
    },
  )
  test.each([
    ['pissa', 'pissa'],
    ['pissa_niter_16', 'pissa'],
    ['OLoRA', 'olora'],
  ])('init_lora_weights = %s changed the model, and is done again', async (init_lora_weights, mine) => {
    expect((await open({ ...LORA, init_lora_weights })).options.init_lora_weights).toBe(mine)
  })
  test('a rank whose export would be beyond every limit is refused before training', async () => {
    const lora = METHODS.get('lora')!
    await expect(onGpu(bundle, lora, { r: 513, init_lora_weights: 'pissa', target_modules: ['v_proj'] })).rejects.toThrow(OptionError)
  })
})

test('an adapter on some layers is written with their paths, on all of a kind with its name', async () => {
  const config = (targets: readonly string[], id = 'lora', options: Json = {}): Json => {
    const method = METHODS.get(id)!
    if (method.slot !== 'linear') throw new Error(id)
    return new Adapter(bundle, method, options, { trainable: false, maxBindingSize: 2 ** 27, targets }).config('tiny')
  }
  const all = bundle.linears
  expect(config(all.filter((p) => /[qv]_proj/.test(p))).target_modules).toEqual(['q_proj', 'v_proj'])
  const some = all.filter((p) => p.includes('layers.1.') && /(k|up)_proj/.test(p))
  expect(config(some).target_modules).toEqual([...some].sort())
  // (IA)³'s feed-forward modules are among the targets, under the same names.
  const parts = all.filter((p) => /layers\.0\..*(down|v)_proj/.test(p))
  expect(config(parts, 'ia3')).toMatchObject({ target_modules: [...parts].sort(), feedforward_modules: ['model.layers.0.mlp.down_proj'] })
  const both = config(
    all.filter((p) => p.endsWith('down_proj')),
    'ia3',
    { feedforward_modules: ['model.layers.0.mlp.down_proj'] },
  )
  expect(both).toMatchObject({
    target_modules: ['model.layers.0.mlp.down_proj', 'model.layers.1.mlp.down_proj'],
    feedforward_modules: ['model.layers.0.mlp.down_proj'],
  })
  expect(methodOf(both, METHODS.values()).options.feedforward_modules).toEqual(['model.layers.0.mlp.down_proj'])
})

test('continues from an adapter with the options its config cannot hold', async () => {
  const text = new TextEncoder().encode(adapterConfigJson(LORA))
  const files = new Map([
    ['adapter_config.json', fromBytes('adapter_config.json', text)],
    ['adapter_model.safetensors', fromBytes('adapter_model.safetensors', bytesOf(loraTensors()))],
  ])
  const loaded = await openAdapter(bundle, await readAdapter(files), { loraplus_lr_ratio: 16 })
  const t = await onGpu(bundle, loaded.method, loaded.options, { loaded })
  expect(t.trained!.entries.map((e) => e.lr).sort()).toEqual([1, 1, 1, 1, 16, 16, 16, 16])
  const untouched = await onGpu(bundle, null)
  expect(relative(await logitsOf(t, [3, 4]), await logitsOf(untouched, [3, 4]))).toBeGreaterThan(1e-3)
  const items = await adapterFiles(t.adapter!, await t.trained!.read(), { baseModel: 'tiny', seed: 0, manifest: null })
  expect(items.map((i) => i.name)).toEqual(['adapter_model.safetensors', 'adapter_config.json', 'README.md'])
  t.destroy()
  untouched.destroy()
})
