/** Llamas of both generations of config.json against Transformers in double precision: logits, loss and every gradient (test/golden/models.py); and
 * configs and weights that do not make a model. Tolerances, relative to the largest value of a tensor: 2e-5;
 * float32 rounds at 6e-8, and a gradient passes through some twenty sums of 32 to 70 terms. */
import { afterAll, describe, expect, test } from 'vitest'
import { goldenBytes, goldenJson } from '../../test/files.ts'
import { gpu, relative } from '../../test/gpu.ts'
import { gradientsOf, logitsOf, onGpu, RUN, TINY, tinyBundle, tinyFiles } from '../../test/tiny.ts'
import { ModelError } from '../errors.ts'
import { fromFloat32, toFloat32 } from '../io/dequantize.ts'
import { openModel } from '../io/model_files.ts'
import { readSafetensors } from '../io/safetensors.ts'
import { writeSafetensors } from '../io/safetensors_writer.ts'
import type { StoredTensor } from '../io/source.ts'
import { fromBytes } from '../io/sources.ts'
import { full } from '../peft/full.ts'
import { type ModelBundle, openBundle } from '../train/bundle.ts'
import { Trainer } from '../train/trainer.ts'
import { llama } from './llama.ts'
import { familyOf, familyOfGguf } from './registry.ts'
import type { Json } from './family.ts'

interface Case {
  readonly name: string
  readonly config: Json
  readonly seed: number
  readonly loss: number
  readonly rows: readonly { readonly ids: readonly number[]; readonly labels: readonly number[]; readonly logits: readonly number[] }[]
}
const CASES = goldenJson('models/llama.json') as readonly Case[]
const floats = async (t: StoredTensor): Promise<Float32Array> =>
  toFloat32(t.type, await t.source.read(t.offset, t.bytes), t.shape.reduce((a, b) => a * b, 1)) // prettier-ignore

/** The weights that the script drew. */
async function bundleOf({ config, seed }: Case, shapes: readonly (readonly [string, readonly number[]])[]): Promise<ModelBundle> {
  let state = seed
  const tensors = [...shapes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, shape]) => ({
      name,
      shape,
      type: 'F32' as const,
      data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        const v = (state / 2 ** 32) * 2 - 1
        return name.includes('norm') ? v * 0.2 + 1 : v * 0.35
      }),
    }))
  const json = new TextEncoder().encode(JSON.stringify(config))
  const files = new Map([
    ['config.json', fromBytes('config.json', json)],
    ['model.safetensors', fromBytes('model.safetensors', writeSafetensors(tensors))],
  ])
  return openBundle(await openModel(files, 'golden'))
}

const results: string[] = []
afterAll(() => console.log(results.join('\n')))

describe.each(CASES.map((c, i) => [c.name, c, i] as const))('%s', (name, c, i) => {
  test('logits, loss and every gradient', async () => {
    const { tensors } = await readSafetensors(fromBytes('golden', goldenBytes('models/llama.safetensors')))
    const wanted = [...tensors].filter(([k]) => k.startsWith(`${i}/`)).map(([k, t]) => [k.slice(k.indexOf('/') + 1), t] as const)
    const bundle = await bundleOf(
      c,
      wanted.map(([k, t]) => [k, t.shape]),
    )
    const plain = await onGpu(bundle, null)
    const t = await onGpu(bundle, full)
    const trainer = await Trainer.create(gpu, t, { ...RUN, batch: c.rows.length })
    try {
      let logits = 0
      for (const row of c.rows) logits = Math.max(logits, relative(await logitsOf(plain, row.ids), row.logits))
      expect(logits, 'logits').toBeLessThan(2e-5)
      const ids = c.rows.flatMap((r) => r.ids)
      let at = 0
      const data = {
        ids: Int32Array.from(ids),
        labels: Int32Array.from(c.rows.flatMap((r) => r.labels)),
        offsets: Uint32Array.from([0, ...c.rows.map((r) => (at += r.ids.length))]),
      }
      const { loss, grads } = await gradientsOf(trainer, data)
      expect(Math.abs(loss - c.loss), 'loss').toBeLessThan(2e-5 * c.loss)
      expect([...grads.keys()].sort()).toEqual(wanted.map(([k]) => k).sort())
      let worst = 0
      for (const [k, want] of wanted) {
        const error = relative(grads.get(k)!, await floats(want))
        expect(error, `gradient of ${k}`).toBeLessThan(2e-5)
        worst = Math.max(worst, error)
      }
      results.push(`${name}: logits within ${logits.toExponential(1)}, ${wanted.length} gradients within ${worst.toExponential(1)}`)
    } finally {
      trainer.destroy()
      t.destroy()
      plain.destroy()
    }
  })
})

describe('configs that make no model', () => {
  const read = (fields: Json): unknown => {
    const config = { ...TINY, ...fields }
    return familyOf(config).readConfig(config)
  }
  test.each([
    ['zero heads', { num_attention_heads: 0 }, /num_attention_heads is 0/],
    ['a million layers', { num_hidden_layers: 1_000_000 }, /num_hidden_layers is 1000000, expected a whole number from 1 to/],
    ['no layer', { num_hidden_layers: 0 }, /num_hidden_layers is 0/],
    [
      'key heads that do not divide the heads',
      { num_attention_heads: 4, num_key_value_heads: 3, head_dim: 8 },
      /4 attention heads cannot share 3/,
    ],
    ['more key heads than heads', { num_key_value_heads: 4 }, /num_key_value_heads is 4/],
    ['heads that do not divide the width', { num_attention_heads: 3, num_key_value_heads: 3 }, /hidden_size 32 is not a multiple of 3/],
    ['a head of odd size', { head_dim: 6 }, /head_dim 6 must be multiples of 4/],
    ['an inner width of odd size', { intermediate_size: 42 }, /intermediate_size 42 must be a multiple of 4/],
    ['a negative width', { hidden_size: -32 }, /hidden_size is -32/],
    ['half a token', { vocab_size: 64.5 }, /vocab_size is 64.5/],
    ['a width in words', { hidden_size: '32' }, /hidden_size is "32"/],
    ['no vocabulary', { vocab_size: undefined }, /vocab_size is missing/],
    ['another activation', { hidden_act: 'gelu' }, /hidden_act "gelu" is not supported/],
    ['no epsilon', { rms_norm_eps: 0 }, /rms_norm_eps is 0/],
    ['an unknown rotary scaling', { rope_scaling: { rope_type: 'ntk' } }, /rotary scaling "ntk" is not supported/],
    ['a scaling without its factor', { rope_scaling: { rope_type: 'linear' } }, /rope_scaling.factor: missing/],
    ['an unknown architecture', { architectures: ['MambaForCausalLM'] }, /MambaForCausalLM is not supported/],
    ['a known model type under an unknown architecture', { architectures: ['LlamaForTokenClassification'] }, /LlamaForTokenClassification/],
    ['no architecture', { architectures: undefined, model_type: undefined }, /the architecture null is not supported/],
  ])('%s', (_, fields, message) => {
    expect(() => read(fields)).toThrow(ModelError)
    expect(() => read(fields)).toThrow(message)
    try {
      read(fields)
    } catch (e) {
      expect((e as ModelError).where).toMatch(/^config\.json/)
      expect((e as ModelError).fix).toBeTruthy()
    }
  })
  test('an unknown GGUF architecture', () => {
    expect(() => familyOfGguf('mamba')).toThrow(/general.architecture: the GGUF architecture "mamba" is not supported/)
    expect(() => familyOfGguf(undefined)).toThrow(ModelError)
  })
  test('model_type alone is enough where no architecture is named', () => {
    expect(familyOf({ model_type: 'llama' }).id).toBe('llama')
  })
})

describe('weights that do not belong to their config', () => {
  const NAME = 'model.layers.1.mlp.up_proj.weight'
  const changed = async (change: (tensors: Map<string, StoredTensor>) => void, fields: Json = {}): Promise<ModelBundle> => {
    const files = await openModel(tinyFiles(fields), 'tiny')
    const tensors = new Map(files.tensors)
    change(tensors)
    return openBundle({ ...files, tensors })
  }
  test('a missing tensor', async () => {
    const open = changed((t) => void t.delete(NAME))
    await expect(open).rejects.toThrow(ModelError)
    await expect(open).rejects.toThrow(`tiny, tensor ${NAME}: the tensor is missing`)
  })
  test('a missing head, of a model that is not tied', async () => {
    await expect(changed((t) => void t.delete('lm_head.weight'), { tie_word_embeddings: false })).rejects.toThrow(
      /lm_head.weight: the tensor is missing/,
    )
  })
  test('a missing bias', async () => {
    const bias = 'model.layers.0.self_attn.k_proj.bias'
    await expect(changed((t) => void t.delete(bias), { attention_bias: true })).rejects.toThrow(`tensor ${bias}: the tensor is missing`)
  })
  test('another shape', async () => {
    const open = changed((t) => void t.set(NAME, { ...t.get(NAME)!, shape: [32, 64] }))
    await expect(open).rejects.toThrow(ModelError)
    await expect(open).rejects.toThrow(`tensor ${NAME}: the shape is [32, 64], expected [64, 32] by the config`)
  })
  test.each([
    ['NaN', 'model.layers.1.mlp.up_proj.weight', NaN],
    ['infinite', 'model.norm.weight', Infinity],
    ['infinite', 'model.embed_tokens.weight', -Infinity],
  ])('a %s weight in %s', async (_, name, value) => {
    const bundle = await changed((t) => {
      const old = t.get(name)!
      const values = new Float32Array(old.bytes / 4).fill(1)
      values[7] = value
      t.set(name, { ...old, source: fromBytes(name, fromFloat32('F32', values)), offset: 0 })
    })
    const before = gpu.allocatedBytes
    const filled = onGpu(bundle, null)
    await expect(filled).rejects.toThrow(ModelError)
    await expect(filled).rejects.toThrow(`tiny, tensor ${name}: element 7 is ${value}`)
    expect(gpu.allocatedBytes, 'bytes left behind').toBe(before)
  })
  test('a model of whole weights opens in every stored type', async () => {
    const logits = new Map<string, Float32Array>()
    for (const type of ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_1'] as const) {
      const t = await onGpu(await tinyBundle({}, { type }), null)
      logits.set(type, await logitsOf(t, [3, 9, 4]))
      t.destroy()
    }
    const error = (type: string): number => relative(logits.get(type)!, logits.get('F32')!)
    // Rounding of a weight: 2^-11, 2^-8, 1/254 and 1/30 of a block's range; the norms of both layers stand between it and the logits.
    expect(error('F16')).toBeLessThan(4e-3)
    expect(error('BF16')).toBeLessThan(4e-2)
    expect(error('Q8_0')).toBeLessThan(4e-2)
    expect(error('Q4_1')).toBeLessThan(0.4)
    expect(error('Q4_1')).toBeGreaterThan(error('F16'))
  })
})

describe('rotary divisors of a GGUF file', () => {
  /** Llama 3.2 1B: theta 500,000, heads of 64. Divisors from Transformers' llama3 formula (modeling_rope_utils.py), in double precision. */
  const divisors = Array.from({ length: 32 }, (_, i) => {
    const wavelength = 2 * Math.PI * 500_000 ** (i / 32)
    if (wavelength < 8192 / 4) return 1
    if (wavelength > 8192) return 32
    const smooth = (8192 / wavelength - 1) / 3
    return 1 / ((1 - smooth) / 32 + smooth)
  })
  const metadata = (values: readonly number[]) =>
    new Map<string, unknown>([
      ['llama.rope.freq_base', 500_000],
      ['llama.context_length', 131_072],
      ['rope_freqs.weight', values],
    ])
  test('are read as the scaling that they come from', () => {
    expect(llama.ggufConfig(metadata(divisors), new Set()).rope_scaling).toEqual({
      rope_type: 'llama3',
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    })
  })
  test('of another kind are refused', () => {
    expect(() => llama.ggufConfig(metadata(divisors.map((v, i) => (i === 20 ? v * 1.5 : v))), new Set())).toThrow(
      /rope_freqs\.weight.*scaled/s,
    )
  })
})
