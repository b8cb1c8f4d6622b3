/** @file The tests of a model family against Transformers and PEFT in double precision (fixtures: test/golden/reference_model.py): logits, loss, every gradient,
 * and eight steps of LoRA and of full fine-tuning. */
import { afterAll, describe, expect, test } from 'vitest'
import { toFloat32 } from '../src/io/dequantize.ts'
import { openModel } from '../src/io/model_files.ts'
import { readSafetensors } from '../src/io/safetensors.ts'
import { writeSafetensors } from '../src/io/safetensors_writer.ts'
import type { FileSet, StoredTensor } from '../src/io/source.ts'
import { fromBytes } from '../src/io/sources.ts'
import type { Json } from '../src/models/family.ts'
import { full } from '../src/peft/full.ts'
import { type ModelBundle, openBundle } from '../src/train/bundle.ts'
import { Trainer } from '../src/train/trainer.ts'
import { openAdapter, type TunableLayout } from '../src/train/tunable.ts'
import type { TokenRows } from '../src/data/types.ts'
import { goldenBytes, goldenJson } from './files.ts'
import { gpu, relative } from './gpu.ts'
import { gradientsOf, logitsOf, onGpu, RUN, trainSteps } from './tiny.ts'

interface Run {
  readonly lr: number
  readonly steps: readonly { readonly loss: number; readonly grad_norm: number }[]
  readonly logits: readonly (readonly number[])[]
}
export interface FamilyCase {
  readonly name: string
  readonly config: Json
  readonly seed: number
  readonly loss: number
  readonly rows: readonly { readonly ids: readonly number[]; readonly labels: readonly number[]; readonly logits: readonly number[] }[]
  readonly clip: number
  readonly weight_decay: number
  readonly full: Run
  readonly lora: Run & { readonly adapter_config: Json }
}
interface Drawn {
  readonly name: string
  readonly type: 'F32'
  readonly shape: readonly number[]
  readonly data: Float32Array<ArrayBuffer>
}

/** Gradients and logits are sums of some tens of terms through two layers in float32 (6e-8 each): 2e-5 of a tensor's largest value. A run carries that
 * through eight steps of AdamW, which divides by the gradient's own size. */
const TOLERANCE = { once: 2e-5, loss: 1e-4, norm: 1e-3, afterwards: 1e-3 } as const

export const casesOf = (family: string): readonly FamilyCase[] => goldenJson(`models/${family}.json`) as readonly FamilyCase[]

/** What the script saved for a case: gradients by parameter, and `lora/…`, the adapter at its start. */
async function fixture(family: string, index: number): Promise<{ grads: Map<string, StoredTensor>; adapter: Map<string, StoredTensor> }> {
  const { tensors } = await readSafetensors(fromBytes('golden', goldenBytes(`models/${family}.safetensors`)))
  const grads = new Map<string, StoredTensor>()
  const adapter = new Map<string, StoredTensor>()
  for (const [key, t] of tensors) {
    const [at, ...rest] = key.split('/')
    if (at !== String(index)) continue
    if (rest[0] === 'lora') adapter.set(rest[1], t)
    else grads.set(rest[0], t)
  }
  return { grads, adapter }
}
const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)
const floats = async (t: StoredTensor): Promise<Float32Array<ArrayBuffer>> =>
  toFloat32(t.type, await t.source.read(t.offset, t.bytes), count(t.shape))

/** The weights that the script drew, for tensors of these names and shapes. */
function drawn(seed: number, shapes: Iterable<readonly [string, readonly number[]]>): Drawn[] {
  let state = seed
  return [...shapes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, shape]) => ({
      name,
      shape,
      type: 'F32' as const,
      data: Float32Array.from({ length: count(shape) }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        const v = (state / 2 ** 32) * 2 - 1
        return shape.length === 1 && name.endsWith('weight') ? v * 0.2 + 1 : v * 0.35
      }),
    }))
}

/** The model folder of a case. `rename`: what its tensors are called in the file. */
export async function caseFiles(family: string, index: number, rename: (name: string) => string = (n) => n): Promise<FileSet> {
  const c = casesOf(family)[index]
  const { grads } = await fixture(family, index)
  const tensors = drawn(
    c.seed,
    [...grads].map(([k, t]) => [k, t.shape] as const),
  ).map((t) => ({ ...t, name: rename(t.name) }))
  return new Map([
    ['config.json', fromBytes('config.json', new TextEncoder().encode(JSON.stringify(c.config)))],
    ['model.safetensors', fromBytes('model.safetensors', writeSafetensors(tensors))],
  ])
}
export const caseBundle = async (family: string, index: number): Promise<ModelBundle> =>
  openBundle(await openModel(await caseFiles(family, index), 'golden'))

function rowsOf(c: FamilyCase): TokenRows {
  let at = 0
  return {
    ids: Int32Array.from(c.rows.flatMap((r) => r.ids)),
    labels: Int32Array.from(c.rows.flatMap((r) => r.labels)),
    offsets: Uint32Array.from([0, ...c.rows.map((r) => (at += r.ids.length))]),
  }
}
/** Largest error of the logits after each row. */
export async function logitsError(t: TunableLayout, c: FamilyCase, logits: readonly (readonly number[])[]): Promise<number> {
  let worst = 0
  for (const [i, row] of c.rows.entries()) worst = Math.max(worst, relative(await logitsOf(t, row.ids), logits[i]))
  return worst
}

/** The trained values in the fixture's arrangement: Transformers' Conv1D has [in, out]. */
function arranged(b: ModelBundle, name: string, values: Float32Array, shape: readonly number[]): Float32Array {
  if (!b.family.conv1d?.(name.replace(/\.weight$/, '')) || shape.length !== 2) return values
  const [R, C] = shape
  return values.map((_, i) => values[(i % C) * R + Math.floor(i / C)])
}

async function compareRun(t: TunableLayout, c: FamilyCase, reference: Run): Promise<string> {
  const { clip, weight_decay } = c
  const trainer = await Trainer.create(gpu, t, { ...RUN, batch: c.rows.length, clip, weight_decay, lr: reference.lr })
  try {
    const records = await trainSteps(trainer, rowsOf(c), reference.steps.length)
    const off = (of: (i: number) => number): number => Math.max(...reference.steps.map((_, i) => of(i)))
    const loss = off((i) => Math.abs(records[i].loss / reference.steps[i].loss - 1))
    const norm = off((i) => Math.abs(records[i].grad_norm / reference.steps[i].grad_norm - 1))
    expect(loss, 'loss of a step').toBeLessThan(TOLERANCE.loss)
    expect(norm, 'gradient norm of a step').toBeLessThan(TOLERANCE.norm)
    expect(records.at(-1)!.loss, 'the loss falls').toBeLessThan(0.9 * records[0].loss)
  } finally {
    trainer.destroy()
  }
  const logits = await logitsError(t, c, reference.logits)
  expect(logits, 'logits afterwards').toBeLessThan(TOLERANCE.afterwards)
  return logits.toExponential(1)
}

/** Declares the tests of every case of a family's fixture. */
export function testFamily(family: string): void {
  const results: string[] = []
  afterAll(() => console.log(results.join('\n')))
  describe.each(casesOf(family).map((c, i) => [c.name, c, i] as const))(`${family}: %s`, (name, c, i) => {
    test('logits, loss and every gradient', async () => {
      const bundle = await caseBundle(family, i)
      const { grads: wanted } = await fixture(family, i)
      const plain = await onGpu(bundle, null)
      const t = await onGpu(bundle, full)
      const trainer = await Trainer.create(gpu, t, { ...RUN, batch: c.rows.length })
      try {
        const logits = await logitsError(
          plain,
          c,
          c.rows.map((r) => r.logits),
        )
        expect(logits, 'logits').toBeLessThan(TOLERANCE.once)
        const { loss, grads } = await gradientsOf(trainer, rowsOf(c))
        expect(Math.abs(loss - c.loss), 'loss').toBeLessThan(TOLERANCE.once * c.loss)
        expect([...grads.keys()].sort()).toEqual([...wanted.keys()].sort())
        // Keys' biases shift every score of a query alike: their gradient is 0, and float32 leaves the noise of the others' sums.
        const scale = Math.max(...(await Promise.all([...wanted.values()].map(async (g) => largest(await floats(g))))))
        let worst = 0
        for (const [k, want] of wanted) {
          const reference = await floats(want)
          const got = arranged(bundle, k, grads.get(k)!, want.shape)
          const error = largest(reference) > 1e-6 * scale ? relative(got, reference) : largest(got) / scale
          expect(error, `gradient of ${k}`).toBeLessThan(TOLERANCE.once)
          worst = Math.max(worst, error)
        }
        results.push(
          `${family}, ${name}: logits within ${logits.toExponential(1)}, ${wanted.size} gradients within ${worst.toExponential(1)}`,
        )
      } finally {
        trainer.destroy()
        t.destroy()
        plain.destroy()
      }
    })
    test('eight steps of full fine-tuning', async () => {
      const t = await onGpu(await caseBundle(family, i), full)
      results.push(`${family}, ${name}: logits after 8 steps in full within ${await compareRun(t, c, c.full)}`)
      t.destroy()
    })
    test('eight steps of LoRA from an adapter that PEFT saved', async () => {
      const bundle = await caseBundle(family, i)
      const { adapter } = await fixture(family, i)
      const loaded = await openAdapter(bundle, { config: c.lora.adapter_config, tensors: adapter, files: new Map() })
      expect(loaded.targets).toHaveLength(bundle.linears.length)
      const t = await onGpu(bundle, loaded.method, loaded.options, { loaded, trainable: true })
      results.push(`${family}, ${name}: logits after 8 steps of LoRA within ${await compareRun(t, c, c.lora)}`)
      t.destroy()
    })
  })
}
const largest = (v: Float32Array): number => v.reduce((m, x) => Math.max(m, Math.abs(x)), 0)
