/** Whole models in every format: which one each matrix gets, and that the model computes what its decoded weights do. */
import { describe, expect, test } from 'vitest'
import { gpu, relative } from '../../test/gpu.ts'
import { replaced, storedBundle, WIDE } from '../../test/stored.ts'
import { gradientsOf, logitsOf, onGpu, RUN, tinyBundle, tinyRows } from '../../test/tiny.ts'
import { nf4Values, q8Values } from '../../test/weights.ts'
import { ModelError, OptionError } from '../errors.ts'
import { encoder } from '../io/pack/encoder.ts'
import { dora } from '../peft/dora.ts'
import { full } from '../peft/full.ts'
import { lora } from '../peft/lora.ts'
import { type ModelBundle, paramShape, readFloats, tensorName } from './bundle.ts'
import type { Base } from './run_config.ts'
import { Trainer } from './trainer.ts'
import { TunableLayout } from './tunable.ts'

const layout = (b: ModelBundle, base: Base, method: typeof full | typeof lora | null = null, options = {}): TunableLayout =>
  new TunableLayout(b, method, options, { base, seed: 0, trainable: method !== null, maxBindingSize: gpu.traits.maxBindingSize })
const formats = (t: TunableLayout): [linear: string, table: string] => [
  [...new Set([...t.store.groups.values()].flat().map((m) => m.format))].join(),
  t.store.embedding.format,
]

test.each([
  // base, linear layers and table as stored, and as kept
  ['keep', 'F32', 'F32', 'f32', 'f32'],
  ['keep', 'F16', 'F16', 'f16', 'f16'],
  ['keep', 'BF16', 'BF16', 'bf16', 'bf16'],
  ['keep', 'Q4_K', 'F16', 'q4_k', 'q8_0'],
  ['keep', 'Q4_K', 'Q6_K', 'q4_k', 'q6_k'],
  ['keep', 'Q4_0', 'Q8_0', 'q4_0', 'q8_0'],
  ['keep', 'Q3_K', 'Q5_1', 'q8_0', 'q5_1'],
  ['nf4', 'BF16', 'BF16', 'nf4', 'q8_0'],
  ['nf4', 'Q8_0', 'Q8_0', 'nf4', 'q8_0'],
  ['nf4', 'Q4_0', 'Q4_1', 'q4_0', 'q4_1'],
  ['q8', 'F32', 'F32', 'q8_0', 'q8_0'],
  ['q8', 'Q6_K', 'F32', 'q6_k', 'q8_0'],
  ['f16', 'F32', 'BF16', 'f16', 'f16'],
  ['f16', 'Q4_K', 'Q6_K', 'f16', 'f16'],
  ['f32', 'Q4_K', 'F16', 'f32', 'f32'],
] as const)('%s of %s with a table of %s: %s and %s', async (base, linear, table, wantLinear, wantTable) => {
  expect(formats(layout(await storedBundle(linear, table), base))).toEqual([wantLinear, wantTable])
})

test('rows that are no whole blocks stay floats of 16 bits', async () => {
  const b = await tinyBundle({ hidden_size: 40, num_attention_heads: 2 })
  // down_proj has 64 columns, everything else 40.
  expect(formats(layout(b, 'nf4'))).toEqual(['f16,nf4', 'f16'])
})

test('Q2_K and Q3_K, which have no kernel, are said to be kept as 8-bit blocks', async () => {
  expect(layout(await storedBundle('Q3_K', 'Q8_0'), 'keep').notes).toEqual([
    expect.stringMatching(/^Q3_K weights are kept as 8-bit blocks/),
  ])
  expect(layout(await storedBundle('Q4_K', 'Q6_K'), 'keep').notes).toEqual([])
})

test('a method that trains the weights themselves refuses a smaller base, and keeps f32', async () => {
  const b = await storedBundle('BF16', 'BF16')
  for (const base of ['nf4', 'q8', 'f16'] as const) expect(() => layout(b, base, full)).toThrow(OptionError)
  expect(() => layout(b, 'nf4', full)).toThrow('full trains the weights themselves')
  expect(formats(layout(b, 'keep', full))).toEqual(['f32', 'f32'])
})

test('a method that replaces frozen weights keeps those as f32', async () => {
  const t = layout(await storedBundle('BF16', 'BF16'), 'nf4', lora, { init_lora_weights: 'pissa', target_modules: ['q_proj'] })
  expect([...t.store.groups.values()].flat().map((m) => `${m.members.map((x) => x.name.split('.').at(-1)).join('|')} ${m.format}`)).toEqual([
    'q_proj f32', 'k_proj nf4', 'v_proj nf4', 'o_proj nf4', 'gate_proj|up_proj nf4', 'down_proj nf4',
  ]) // prettier-ignore
})

/** Logits, and loss and gradients of LoRA over a batch. */
async function outcome(b: ModelBundle, base: Base): Promise<{ logits: Float32Array; loss: number; grads: Float32Array }> {
  const alone = await onGpu(b, null, {}, { base })
  const logits = await logitsOf(alone, [5, 9, 3, 40, 2])
  alone.destroy()
  const t = await onGpu(b, lora, { r: 4, init_lora_weights: 'gaussian' }, { base })
  const trainer = await Trainer.create(gpu, t, { ...RUN, batch: 4 })
  const { loss, grads } = await gradientsOf(trainer, tinyRows({ rows: 4 }))
  trainer.destroy()
  t.destroy()
  return { logits, loss, grads: Float32Array.from([...grads.values()].flatMap((g) => [...g])) }
}
function expectSame(a: Awaited<ReturnType<typeof outcome>>, b: typeof a): void {
  expect(Math.abs(a.loss / b.loss - 1)).toBeLessThan(1e-5)
  // Sums of some hundred terms in f32, in another order.
  expect(relative(a.logits, b.logits)).toBeLessThan(1e-4)
  expect(relative(a.grads, b.grads)).toBeLessThan(1e-4)
}

describe('a model computes with its weights as they are stored what it does with their values as f32', () => {
  test.each(['F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K'] as const)('%s', async (type) => {
    const b = await storedBundle(type, type)
    expectSame(await outcome(b, 'keep'), await outcome(b, 'f32'))
  })
})

describe('DoRA begins as the base that it sits on, whose lengths are those of the weights as they are kept', () => {
  test.each(['keep', 'f16', 'q8', 'nf4'] as const)('%s', async (base) => {
    const b = await tinyBundle({ ...WIDE, hidden_size: 64 }, { std: 0.3 })
    const ids = [5, 9, 3, 40, 2]
    const logits: Float32Array[] = []
    for (const method of [null, dora]) {
      const t = await onGpu(b, method, {}, { base })
      logits.push(await logitsOf(t, ids))
      t.destroy()
    }
    // Norms in f32, in another order; the lengths of the file's weights would be 1e-2 off in 4 bits.
    expect(relative(logits[1], logits[0])).toBeLessThan(2e-6)
  })
})

test('a weight beyond f16 is refused by name where the base is f16, and kept otherwise', async () => {
  const plain = await tinyBundle()
  const name = 'model.layers.1.mlp.up_proj.weight'
  const values = await readFloats(plain, name, [64, 32])
  values[70] = -65_520
  const b = await replaced(plain, (n) => (n === name ? { type: 'F32', bytes: new Uint8Array(values.buffer) } : null))
  const e = await onGpu(b, null, {}, { base: 'f16' }).catch((e: unknown) => e)
  expect(e).toBeInstanceOf(ModelError)
  expect((e as Error).message).toMatch(/up_proj\.weight: element 70 is -65520, and f16 holds up to 65504/)
  ;(await onGpu(b, null, {}, { base: 'q8' })).destroy()
  values[70] = 65_519
  ;(await onGpu(b, null, {}, { base: 'f16' })).destroy()
})

describe('a model quantised on load computes what it does with the values that the blocks mean', () => {
  test.each(['nf4', 'q8'] as const)('%s', async (base) => {
    const b = await tinyBundle(WIDE, { std: 0.1 })
    const values = new Map<string, Uint8Array>()
    for (const p of b.params) {
      if (p.kind === 'vector') continue
      const [rows, cols] = paramShape(p)
      const format = base === 'nf4' && p.kind === 'linear' ? 'nf4' : 'q8_0'
      const stored = await readFloats(b, tensorName(p), [rows, cols])
      const e = encoder('F32', format, (i) => { throw new Error(String(i)) }) // prettier-ignore
      const { data, scales } = e.slice(new Uint8Array(stored.buffer), rows * cols)
      const table = (scales ?? e.end()) as Uint32Array
      const decoded = (format === 'nf4' ? nf4Values : q8Values)(data as Uint32Array, table, rows * cols)
      // Half of the widest step of NF4, or of 1/127 and what the scale was rounded by.
      expect(relative(decoded, stored)).toBeLessThan(base === 'nf4' ? 0.16 : 0.0045)
      values.set(tensorName(p), new Uint8Array(decoded.buffer))
    }
    const meant = await replaced(b, (name) => ({ type: 'F32', bytes: values.get(name)! }))
    expectSame(await outcome(b, base), await outcome(meant, 'f32'))
  })
})
