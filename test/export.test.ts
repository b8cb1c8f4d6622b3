/** Adapters between PEFT and this project (fixtures: test/golden/peft_adapters.py). Loaded ones have PEFT's logits within 3e-4 (values around 3, float32
 * against double precision: some 1e-6 is expected); written ones have PEFT's names, shapes and config. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readAdapter } from '../src/io/adapter_files.ts'
import { openModel } from '../src/io/model_files.ts'
import { readPath } from '../src/io/node_source.ts'
import type { Json } from '../src/peft/method.ts'
import { METHODS } from '../src/peft/registry.ts'
import { openBundle } from '../src/train/bundle.ts'
import { adapterFiles } from '../src/train/export.ts'
import { methodOf } from '../src/train/load_adapter.ts'
import { openAdapter } from '../src/train/tunable.ts'
import { goldenJson } from './files.ts'
import { describeShared } from './shared.ts'
import { filesOf, logitsOf, onGpu, tinyBundle } from './tiny.ts'

const GOLDEN = resolve(import.meta.dirname, 'golden/peft')
const expected = goldenJson('peft/expected.json') as {
  readonly ids: readonly (readonly number[])[]
  readonly base: readonly (readonly number[])[]
  readonly adapters: Readonly<Record<string, { readonly logits: readonly (readonly number[])[] }>>
}
const names = goldenJson('peft/names.json') as {
  readonly model: Json
  readonly adapters: Readonly<Record<string, { readonly shapes: Readonly<Record<string, readonly number[]>>; readonly config: Json }>>
}
const difference = (a: ArrayLike<number>, b: readonly number[]): number => Math.max(...b.map((v, i) => Math.abs(a[i] - v)))
const model = async () => openBundle(await openModel(await readPath(join(GOLDEN, 'model')), 'acme/tiny-llama'))

const results: string[] = []
afterAll(() => console.log(results.join('\n')))

describe.each(Object.entries(expected.adapters))('%s, saved by PEFT', (name, { logits }) => {
  test('has the logits that PEFT computes, and is written as it was read', async () => {
    const bundle = await model()
    const files = await readAdapter(await readPath(join(GOLDEN, name)))
    const loaded = await openAdapter(bundle, files)
    const t = await onGpu(bundle, loaded.method, loaded.options, { trainable: false, loaded })
    let worst = 0
    let effect = Infinity
    for (const [i, ids] of expected.ids.entries()) {
      worst = Math.max(worst, difference(await logitsOf(t, ids), logits[i]))
      effect = Math.min(effect, difference(expected.base[i], [...logits[i]]))
    }
    expect(effect, 'the adapter does something').toBeGreaterThan(3e-2)
    results.push(`${name}: logits within ${worst.toExponential(1)}; the adapter moves them by ${effect.toFixed(2)}`)
    expect(worst).toBeLessThan(3e-4)

    const state = await t.adapter!.params.read()
    const again = await readAdapter(
      await filesOf(await adapterFiles(t.adapter!, state, { baseModel: 'acme/tiny-llama', seed: 0, manifest: null })),
    )
    t.destroy()
    const reloaded = await openAdapter(bundle, again)
    // What the tensors say about places, the config says too: PEFT reads the config alone.
    const { method, options } = reloaded
    if (method.slot === 'linear') expect(method.targets(options as never, bundle.linears)).toEqual(loaded.targets)
    if (t.adapter!.replaces) return
    expect(reloaded.values).toEqual(loaded.values)
    for (const [field, value] of Object.entries(again.config))
      if (!/target_modules|feedforward_modules|init_|dropout|layers_to_transform|prompt_tuning_init/.test(field))
        expect(value, field).toEqual(files.config[field])
  })
})

describe.each(Object.entries(names.adapters))('%s', (name, { shapes, config }) => {
  const build = async () => {
    const bundle = await tinyBundle({ ...names.model })
    const { method, options } = methodOf(config, METHODS.values())
    return onGpu(bundle, method, { ...options, ...('init_lora_weights' in options && { init_lora_weights: 'true' }) })
  }
  test('has the state-dict keys and shapes of PEFT', async () => {
    const t = await build()
    const own = Object.fromEntries(t.adapter!.params.entries.map((e) => [e.key, e.shape]))
    t.destroy()
    expect(own).toEqual(shapes)
  })
  test("has PEFT's config: what is written is equal, what is not written is off", async () => {
    const t = await build()
    const own = JSON.parse(JSON.stringify(t.adapter!.config('acme/tiny-llama'))) as Json
    t.destroy()
    const isOff = (v: unknown): boolean => v === null || v === false || (typeof v === 'object' && Object.keys(v).length === 0)
    // A prompt that began as a sample of the vocabulary is stored like any other.
    const { prompt_tuning_init: _, ...comparable } = own
    for (const [field, value] of Object.entries(comparable)) expect(value, field).toEqual(config[field])
    for (const [field, value] of Object.entries(config))
      if (!(field in own) && !/^(peft_version|megatron_core|qalora_group_size)$/.test(field)) expect(isOff(value), field).toBe(true)
    expect(name.startsWith(String(own.peft_type))).toBe(true)
  })
})

describeShared('the names of ../shared/goldens', ['goldens', 'peft_keys_shapes.txt'], (path) => {
  test.each([
    ['LORA', 'LORA'],
    ['LORA+DoRA', 'LORA_DoRA'],
    ['LORA rslora', 'LORA_rslora'],
    ['PROMPT_TUNING', 'PROMPT_TUNING'],
  ])('%s are those of the fixture', (title, name) => {
    const section = readFileSync(path, 'utf8')
      .split('### ')
      .find((s) => s.startsWith(`${title}  `))!
    const lines = [...section.matchAll(/^ {4}(\S+) \[([\d, ]+)\]/gm)]
    expect(lines.length).toBeGreaterThan(0)
    for (const [, key, shape] of lines) expect(names.adapters[name].shapes[key], key).toEqual(shape.split(', ').map(Number))
    // The list is cut where it says so.
    if (!section.includes('…'))
      expect(lines.length).toBe(Object.keys(names.adapters[name].shapes).length / (title === 'PROMPT_TUNING' ? 1 : 2))
  })
})
