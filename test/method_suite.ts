/** @file What every method must hold to, whichever it is. A method is given as its declaration: nothing here knows one by name. */
import { describe, expect, test } from 'vitest'
import { OptionError } from '../src/errors.ts'
import { activeBindings } from '../src/gpu/kernel.ts'
import { readAdapter } from '../src/io/adapter_files.ts'
import { openModel } from '../src/io/model_files.ts'
import { defaults, type Options, parseOptions, parseText, type Values } from '../src/options.ts'
import type { AnyInputMethod, AnyLinearMethod, AnyMethod, Json } from '../src/peft/method.ts'
import { numel } from '../src/tensor/graph.ts'
import type { WeightFormat } from '../src/kernels/weight_formats.ts'
import { openBundle } from '../src/train/bundle.ts'
import { adapterFiles, modelFiles } from '../src/train/export.ts'
import { loadState, methodOf } from '../src/train/load_adapter.ts'
import { RUN_OPTIONS } from '../src/train/run_config.ts'
import { Trainer } from '../src/train/trainer.ts'
import type { LoadedAdapter, TunableLayout } from '../src/train/tunable.ts'
import { closeness, gpu, randn, relative } from './gpu.ts'
import { AdaptedLayer, K, type Kind } from './method_layer.ts'
import { variantsOf } from './method_variants.ts'
import { filesOf, gradientsOf, logitsOf, onGpu, RUN, tinyBundle, tinyRows, trainSteps } from './tiny.ts'

type F32 = Float32Array<ArrayBuffer>

/** What the suite cannot find out from a declaration. */
export interface SuiteFacts {
  /** A factor of each output that the method's gradient holds constant, from the merged weight: the numeric derivative must hold it too. */
  readonly detached?: (layer: AdaptedLayer, values: Readonly<Record<string, F32>>) => Float64Array
}

const label = (v: Json): string => JSON.stringify(v)

function declares(m: AnyMethod): void {
  test('declares a paper, and defaults that pass its own checks', () => {
    expect(m.id).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/)
    for (const text of [m.title, m.summary, m.paper.cite]) expect(text.trim().length).toBeGreaterThan(1)
    expect(m.paper.cite).toMatch(/ (19|20)\d\d$/)
    expect(new URL(m.paper.url).protocol).toBe('https:')
    expect(parseOptions(m.options, {})).toEqual(defaults(m.options))
    for (const v of variantsOf(m.options)) expect(parseOptions(m.options, v)).toMatchObject(v)
    expect(parseOptions(RUN_OPTIONS, m.runDefaults)).toMatchObject(m.runDefaults)
  })
  test('refuses what it does not declare', () => {
    expect(() => parseOptions(m.options, { no_such_option: 1 })).toThrow(OptionError)
    for (const [name, o] of Object.entries(m.options)) {
      expect(() => parseOptions(m.options, { [name]: {} }), name).toThrow(OptionError)
      if (o.kind === 'int' || o.kind === 'float') {
        expect(() => parseOptions(m.options, { [name]: o.min - 1 }), name).toThrow(OptionError)
        expect(() => parseText(name, o, 'text'), name).toThrow(OptionError)
      }
    }
  })
}

function roundTrip(
  m: AnyLinearMethod | AnyInputMethod,
  facts = { baseModel: 'base', embeddingSize: 32, layers: 2, heads: 2, fanInFanOut: false },
): void {
  test.each(variantsOf(m.options).map((v) => [label(v), v] as const))('%s survives its adapter_config.json', (_, v) => {
    const o = parseOptions(m.options, v)
    const paths = ['model.layers.0.mlp.down_proj', 'model.layers.0.self_attn.q_proj']
    const targets = ['down_proj', 'q_proj']
    const config = { ...m.toConfig(o, { ...facts, targets, paths }), peft_type: m.peftType }
    const back = methodOf(JSON.parse(JSON.stringify(config)) as Json, [m])
    expect(back.method).toBe(m)
    // Names of layers are as the model has them; how a run began and how it learned is not part of the result.
    const own = (values: Json): Json =>
      Object.fromEntries(Object.entries(values).filter(([k]) => !k.endsWith('_modules') && !/init|lr_ratio/.test(k)))
    expect(own(back.options)).toEqual(own(o))
    if ('target_modules' in m.options) expect(back.options.target_modules).toEqual(targets)
  })
}

/** Sum of a·b in double precision. */
const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let s = 0
  for (let i = 0; i < a.length; i++) s += a[i] * b[i]
  return s
}
/** Directions in which a derivative is taken: single entries, and random ones over all. */
function directions(shape: readonly number[]): F32[] {
  const n = numel(shape)
  const single = [0, Math.floor(n / 2), n - 1].map((at) => new Float32Array(n).fill(1, at, at + 1))
  return [...single, ...[1, 2, 3].map((s) => randn(shape, 40 + s))]
}

function layerTests(m: AnyLinearMethod, facts: SuiteFacts): void {
  const kinds: Kind[] = m.fused ? ['single', 'member', 'fused'] : ['single', 'member']
  const options = (v: Json): Values<Options> => parseOptions(m.options, v)
  const cases: (readonly [WeightFormat, Kind, Json])[] = [
    ...variantsOf(m.options).flatMap((v) => kinds.map((k) => ['f32', k, v] as const)),
    ...(['f16', 'q4_1', 'q8_0'] as const).flatMap((f) => kinds.map((k) => [f, k, {}] as const)),
  ]
  test.each(cases.map(([f, k, v]) => [f, k, label(v), v] as const))(
    'a %s %s layer, %s: identity at the start, merged as unmerged, gradients',
    async (format, kind, _, v) => {
      const layer = await AdaptedLayer.create(m, options(v), kind, format)
      try {
        // Float32 sums of 32 products around 1: rounding is below 1e-6; 1e-5 leaves room for the two products of a low-rank update.
        const start = layer.start()
        expect(closeness(await layer.forward(start), layer.reference(await layer.original()), 1e-5, 2e-5), 'at the start').toBeLessThan(1)
        const moved = Object.fromEntries(
          Object.entries(layer.shapes).map(([n, shape], i) => [n, start[n].map((x, j) => x + randn(shape, 20 + i, 0.3)[j])]),
        )
        const { weight, bias } = layer.merged(moved)
        expect(closeness(await layer.forward(moved), layer.reference({ weight, bias }), 1e-5, 5e-5), 'merged').toBeLessThan(1)
        const grads = await layer.gradients(moved)
        const dx = Float64Array.from({ length: layer.x.length }, (_x, i) => {
          const [row, k] = [Math.floor(i / K), i % K]
          return dot(
            layer.G.subarray(row * layer.rows, (row + 1) * layer.rows),
            Float64Array.from({ length: layer.rows }, (_y, n) => weight[n * K + k]),
          )
        })
        expect(closeness(grads.x, dx, 1e-4, 1e-4), 'gradient of x').toBeLessThan(1)
        const constant = facts.detached?.(layer, moved)
        const loss = async (values: Readonly<Record<string, F32>>): Promise<number> => {
          const y = await layer.forward(values)
          const now = facts.detached?.(layer, values)
          return dot(
            y.map((yi, i) => (constant && now ? ((yi - layer.added(i)) * constant[i % layer.rows]) / now[i % layer.rows] : yi)),
            layer.G,
          )
        }
        const eps = 0.02
        for (const [name, shape] of Object.entries(layer.shapes)) {
          const g = grads[name]
          const size = Math.sqrt(dot(g, g) / g.length)
          expect(size, `${name} has a gradient`).toBeGreaterThan(0)
          for (const d of directions(shape)) {
            const at = (s: number) => ({ ...moved, [name]: moved[name].map((x, i) => x + s * d[i]) })
            const numeric = ((await loss(at(eps))) - (await loss(at(-eps)))) / (2 * eps)
            // y is rounded to 1e-7 of some 10; over 2 eps and some hundred outputs that is 1e-3.
            expect(Math.abs(numeric - dot(g, d)), `${name}: ${numeric} for ${dot(g, d)}`).toBeLessThan(
              2e-3 * (Math.abs(numeric) + size * Math.sqrt(dot(d, d))) + 2e-3,
            )
          }
        }
      } finally {
        layer.destroy()
      }
    },
  )
}

/** Bytes of a tunable's frozen buffers. */
const frozenBytes = (t: TunableLayout): Promise<Uint8Array[]> => Promise.all(t.storages.map(async (s) => new Uint8Array(await s.read())))
const IDS = [3, 9, 4, 7, 5]

function modelTests(m: AnyMethod): void {
  const rows = tinyRows()
  test.each(variantsOf(m.options).map((v) => [label(v), v] as const))('%s: 30 steps learn, frozen weights stay', async (_, v) => {
    const bundle = await tinyBundle({ attention_bias: true })
    const plain = await onGpu(bundle, null)
    const t = await onGpu(bundle, m, v)
    const trainer = await Trainer.create(gpu, t, { ...RUN, lr: Number(m.runDefaults.lr) })
    try {
      if (m.slot === 'linear')
        expect(relative(await logitsOf(t, IDS), await logitsOf(plain, IDS)), 'the untrained model').toBeLessThan(1e-5)
      const before = await frozenBytes(t)
      const losses = (await trainSteps(trainer, rows, 30)).map((r) => r.loss)
      const after = await frozenBytes(t)
      before.forEach((b, i) => expect(Buffer.compare(b, after[i]), t.storages[i].label).toBe(0))
      if (m.slot !== 'weights') expect(before.length).toBeGreaterThan(0)
      expect(losses.at(-1)!, `loss from ${losses[0]}`).toBeLessThan(losses[0] * 0.97)

      const own = new Set(t.trained!.storages())
      const { graph } = trainer.session.program('micro')
      const written = graph.calls.flatMap((c) =>
        activeBindings(c.kernel, c.flags)
          .filter((b) => b.access === 'write')
          .map((b) => ({ call: c, to: c.buffers[b.name] })),
      )
      const frozen = new Set(t.storages)
      expect(
        written.filter(({ to }) => to.storage && frozen.has(to.storage)),
        'writes to frozen weights',
      ).toEqual([])
      // A gradient of a matrix is a TN product: each must be of something that is trained.
      for (const { call, to } of written)
        if (call.flags.includes('layout_tn')) expect(to.storage && own.has(to.storage), `${call.kernel.name} into ${to.op}`).toBe(true)
    } finally {
      trainer.destroy()
      for (const x of [t, plain]) x.destroy()
    }
  })
}

/** Methods without a layer of their own: the whole loss against central differences. */
function lossGradientTest(m: AnyMethod): void {
  test('gradient of the loss against central differences', async () => {
    const bundle = await tinyBundle({ attention_bias: true, tie_word_embeddings: false })
    const t = await onGpu(bundle, m, m.slot === 'input' ? { ...variantsOf(m.options)[1] } : {})
    const trainer = await Trainer.create(gpu, t, RUN)
    try {
      const data = tinyRows({ rows: 4 })
      const { grads, values } = await gradientsOf(trainer, data)
      const set = t.trained!
      for (const e of set.entries) {
        const [g, v] = [grads.get(e.key)!, values.get(e.key)!.data]
        for (const d of [randn(e.shape, 61), randn(e.shape, 62)]) {
          const norm = Math.sqrt(dot(d, d))
          const eps = 0.03 / norm
          const loss = async (s: number): Promise<number> => {
            set.write(
              e,
              v.map((x, i) => x + s * d[i]),
            )
            return (await trainer.evaluate(data)).loss
          }
          const numeric = ((await loss(eps)) - (await loss(-eps))) / (2 * eps)
          // The loss is rounded to 3e-7; the third derivative adds eps² / 6.
          const tolerance = 3e-3 * Math.sqrt((dot(g, g) * dot(d, d)) / g.length) + (1e-6 / eps) * 2 + 3e-3 * Math.abs(numeric)
          expect(Math.abs(numeric - dot(g, d)), `${e.key}: ${numeric} for ${dot(g, d)}`).toBeLessThan(tolerance)
        }
        set.write(e, v)
      }
    } finally {
      trainer.destroy()
      t.destroy()
    }
  })
}

function exportTests(m: AnyMethod): void {
  test.each(variantsOf(m.options).map((v) => [label(v), v] as const))('%s: the export is the trained model', async (_, v) => {
    const bundle = await tinyBundle({ attention_bias: true, dtype: 'float32' })
    const t = await onGpu(bundle, m, v)
    const trainer = await Trainer.create(gpu, t, { ...RUN, lr: 3e-2 })
    const made = [t]
    try {
      const before = await logitsOf(t, IDS)
      await trainSteps(trainer, tinyRows(), 3)
      const trained = await logitsOf(t, IDS)
      // Far beyond every tolerance below: the export of an untrained model would not do.
      expect(relative(before, trained), 'training changed the model').toBeGreaterThan(1e-2)
      const state = await t.trained!.read()
      const o = { baseModel: 'tiny', manifest: null }
      if (m.slot !== 'weights') {
        const files = await readAdapter(await filesOf(await adapterFiles(t.adapter!, state, { ...o, seed: 0 })))
        const found = methodOf(files.config, [m])
        const loaded: LoadedAdapter = { ...found, ...(await loadState(bundle, found.method, found.options, files.tensors)), notes: [] }
        const again = await onGpu(bundle, m, loaded.options, { trainable: false, loaded })
        made.push(again)
        // The same parameters in the same arithmetic; where initialisation replaced weights, in another order of float32 sums.
        expect(relative(await logitsOf(again, IDS), trained), 'loaded again').toBeLessThan(
          m.slot === 'linear' && t.adapter!.replaces ? 1e-5 : 1e-9,
        )
        if (!m.merges) {
          expect(() => modelFiles(bundle, { adapter: t.adapter!, state }, o)).toThrow(/cannot be merged/)
          return
        }
      }
      const items = modelFiles(bundle, m.slot === 'weights' ? { trained: state } : { adapter: t.adapter!, state }, o)
      const merged = await onGpu(openBundle(await openModel(await filesOf(items), 'merged')), null)
      made.push(merged)
      // A merged weight is rounded once more.
      expect(relative(await logitsOf(merged, IDS), trained), 'merged').toBeLessThan(1e-5)
    } finally {
      trainer.destroy()
      for (const x of made) x.destroy()
    }
  })
}

/** Every test that a method of its slot must pass. */
export function methodSuite(m: AnyMethod, facts: SuiteFacts = {}): void {
  describe(m.id, () => {
    declares(m)
    if (m.slot !== 'weights') roundTrip(m)
    if (m.slot === 'linear') layerTests(m, facts)
    else lossGradientTest(m)
    modelTests(m)
    exportTests(m)
  })
}
