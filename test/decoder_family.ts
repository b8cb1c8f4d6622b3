/** @file The tests of a family that shares Llama's decoder: those of every family, its GGUF file as llama.cpp writes it, and its exports (test/golden/decoders.py). */
import { describe, expect, test } from 'vitest'
import { openModel } from '../src/io/model_files.ts'
import { readSafetensors } from '../src/io/safetensors.ts'
import { fromBytes, readAll } from '../src/io/sources.ts'
import type { ModelConfig, ModelFamily } from '../src/models/family.ts'
import { full } from '../src/peft/full.ts'
import { lora } from '../src/peft/lora.ts'
import { openBundle, paramShape, tensorName } from '../src/train/bundle.ts'
import { modelFiles } from '../src/train/export.ts'
import { Generator } from '../src/train/generator.ts'
import { caseBundle, casesOf, logitsError, testFamily } from './family_golden.ts'
import { Trainer } from '../src/train/trainer.ts'
import { goldenBytes } from './files.ts'
import { gpu } from './gpu.ts'
import { filesOf, onGpu, RUN, trainSteps } from './tiny.ts'

/** GGUF keeps numbers in single precision. */
const single = (config: ModelConfig): unknown =>
  JSON.parse(JSON.stringify(config, (_, v: unknown) => (typeof v === 'number' ? Math.fround(v) : v)))

/** @param ggufCase the case that the GGUF file holds */
export function testDecoder(family: ModelFamily, ggufCase = 0): void {
  const { id } = family
  testFamily(id)
  let steps: number[][] | null = null
  const c = casesOf(id)[ggufCase]
  const logits = c.rows.map((r) => r.logits)
  const ggufBundle = async () =>
    openBundle(await openModel(new Map([['model.gguf', fromBytes('model.gguf', goldenBytes(`models/${id}.gguf`))]])))

  test.each(casesOf(id).map((k, i) => [k.name, i] as const))(`${id}: %s, text token by token`, async (_, i) => {
    const t = await onGpu(await caseBundle(id, i), null)
    const generator = await Generator.create(gpu, t, { capacity: 24 })
    const ids = [3, 9, 4]
    const chosen: number[] = []
    const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0, stopIds: [], maxTokens: 12 }
    const { ids: made } = await generator.generate(ids, greedy)
    // The same text, read from its beginning for each token: past the windows, and with every layer's keys kept.
    for (const n of made.keys()) {
      const logits = await generator.logits([...ids, ...made.slice(0, n)])
      chosen.push(logits.indexOf(Math.max(...logits)))
    }
    generator.destroy()
    t.destroy()
    expect(made).toHaveLength(12)
    expect(made).toEqual(chosen)
  })
  test.each(['fast', 'recompute', 'checkpoint', 'lean'] as const)(
    `${id}: the same steps with what is kept for the gradient: %s`,
    async (policy) => {
      const k = casesOf(id).at(-1)!
      const t = await onGpu(await caseBundle(id, casesOf(id).length - 1), full)
      const trainer = await Trainer.create(gpu, t, { ...RUN, policy, batch: 1, lr: k.full.lr })
      const { ids, labels } = k.rows[2]
      const data = { ids: Int32Array.from(ids), labels: Int32Array.from(labels), offsets: Uint32Array.of(0, ids.length) }
      const records = await trainSteps(trainer, data, 3)
      trainer.destroy()
      t.destroy()
      const got = records.map((r) => [r.loss, r.grad_norm])
      steps ??= got
      got.flat().forEach((v, i) => expect(Math.abs(v / steps!.flat()[i] - 1)).toBeLessThan(1e-5))
    },
  )
  describe(`${id} from GGUF`, () => {
    test('has the config and the logits of the safetensors', async () => {
      const bundle = await ggufBundle()
      expect(bundle.family).toBe(family)
      expect(single(bundle.config)).toEqual(single((await caseBundle(id, ggufCase)).config))
      const t = await onGpu(bundle, null)
      expect(await logitsError(t, c, logits)).toBeLessThan(2e-5)
      t.destroy()
    })
    test.each([
      ['trained in full', full],
      ['with an adapter merged in', lora],
    ] as const)('%s, it is written with the names and the config of Transformers, and is the same model', async (_, method) => {
      const bundle = await ggufBundle()
      const t = await onGpu(bundle, method)
      const change = t.adapter ? { adapter: t.adapter, state: await t.adapter.params.read() } : { trained: await t.trained!.read() }
      const files = await filesOf(modelFiles(bundle, change, { baseModel: 'm', manifest: null }))
      // Transformers 5 refuses whole numbers in fields that it takes as floats.
      const config = new TextDecoder().decode(await readAll(files.get('config.json')!, 2 ** 20))
      expect(config).not.toMatch(/"(rms_norm_eps|initializer_range|.*_softcapping)": \d+[,\n]/)
      const { tensors } = await readSafetensors(files.get('model.safetensors')!)
      const shapes = (entries: Iterable<readonly [string, readonly number[]]>) => Object.fromEntries(entries)
      const reference = await caseBundle(id, ggufCase)
      expect(shapes([...tensors].map(([k, v]) => [k, v.shape]))).toEqual(
        shapes(
          reference.params.flatMap((p) => [
            [tensorName(p), paramShape(p)] as const,
            ...(p.kind === 'linear' && p.bias ? [[`${p.name}.bias`, [p.rows]] as const] : []),
          ]),
        ),
      )
      const again = await onGpu(openBundle(await openModel(files, 'golden')), null)
      expect(await logitsError(again, c, logits)).toBeLessThan(2e-5)
      for (const u of [t, again]) u.destroy()
    })
  })
}
