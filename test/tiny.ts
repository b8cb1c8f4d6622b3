/** @file Small random Llamas in memory, rows for them, and what tests do with a model: put it on the GPU, train it, read its logits. */
import { BatchSource, collate } from '../src/data/collate.ts'
import type { TokenRows } from '../src/data/types.ts'
import { fromFloat32 } from '../src/io/dequantize.ts'
import { toF16 } from '../src/io/float16.ts'
import { openModel } from '../src/io/model_files.ts'
import { streamSafetensors, writeSafetensors } from '../src/io/safetensors_writer.ts'
import type { ByteSource, FileSet, StoredTensor } from '../src/io/source.ts'
import { fromBytes } from '../src/io/sources.ts'
import { familyOf } from '../src/models/registry.ts'
import type { AnyMethod, Json } from '../src/peft/method.ts'
import { type ModelBundle, openBundle, paramShape, tensorName } from '../src/train/bundle.ts'
import type { ExportItem } from '../src/train/export.ts'
import { Generator } from '../src/train/generator.ts'
import type { ParamSet } from '../src/train/param_set.ts'
import type { Base, Optimizer, StepRecord } from '../src/train/run_config.ts'
import { type Trainer, type TrainerOptions } from '../src/train/trainer.ts'
import { type LoadedAdapter, TunableLayout } from '../src/train/tunable.ts'
import { gpu, randn } from './gpu.ts'

export type TinyStorage = 'F32' | 'F16' | 'BF16' | 'Q4_1' | 'Q8_0'
/** Grouped queries, two layers; every row a whole number of blocks of 32. */
export const TINY = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
} as const

const text = (name: string, value: unknown): ByteSource => fromBytes(name, new TextEncoder().encode(JSON.stringify(value)))

/** The files of a model with these fields of config.json and random weights: those of linear layers and tables have `std`, norms lie around 1. */
export function tinyFiles(fields: Json = {}, o: { seed?: number; std?: number; type?: 'F32' | 'F16' | 'BF16' } = {}): FileSet {
  const config = { ...TINY, ...fields }
  const family = familyOf(config)
  const type = o.type ?? 'F32'
  let seed = (o.seed ?? 1) * 1000
  const tensor = (name: string, shape: readonly number[], mean: number, std: number) => ({
    name,
    type,
    shape,
    data: fromFloat32(
      type,
      randn(shape, seed++, std).map((v) => v + mean),
    ),
  })
  const tensors = family
    .params(family.readConfig(config))
    .flatMap((p) => [
      tensor(tensorName(p), paramShape(p), p.kind === 'vector' ? 1 : 0, p.kind === 'vector' ? 0.1 : (o.std ?? 0.2)),
      ...(p.kind === 'linear' && p.bias ? [tensor(`${p.name}.bias`, [p.rows], 0, 0.2)] : []),
    ])
  return new Map([
    ['config.json', text('config.json', config)],
    ['model.safetensors', fromBytes('model.safetensors', writeSafetensors(tensors))],
  ])
}

/** Blocks as GGUF has them (ggml-quants.c), quantised in the plainest way. */
export function blocks(type: 'Q4_1' | 'Q8_0', values: Float32Array): Uint8Array {
  const size = type === 'Q4_1' ? 20 : 34
  const out = new Uint8Array((values.length / 32) * size)
  const view = new DataView(out.buffer)
  for (let b = 0; b < values.length / 32; b++) {
    const v = values.subarray(32 * b, 32 * b + 32)
    const at = b * size
    const [min, max] = [Math.min(...v), Math.max(...v)]
    if (type === 'Q8_0') {
      const d = Math.max(-min, max) / 127
      view.setUint16(at, toF16(d), true)
      v.forEach((x, j) => view.setInt8(at + 2 + j, Math.round(x / d)))
    } else {
      const d = (max - min) / 15
      view.setUint16(at, toF16(d), true)
      view.setUint16(at + 2, toF16(min), true)
      const q = (j: number): number => Math.min(15, Math.max(0, Math.round((v[j] - min) / d)))
      for (let j = 0; j < 16; j++) out[at + 4 + j] = q(j) | (q(j + 16) << 4)
    }
  }
  return out
}

/** A tiny model. Block-quantised storage applies to linear layers. */
export async function tinyBundle(fields: Json = {}, o: { seed?: number; std?: number; type?: TinyStorage } = {}): Promise<ModelBundle> {
  const { type } = o
  const floating = type === 'Q4_1' || type === 'Q8_0' ? 'F32' : type
  const bundle = openBundle(await openModel(tinyFiles(fields, { ...o, type: floating }), 'tiny'))
  if (type !== 'Q4_1' && type !== 'Q8_0') return bundle
  const tensors = new Map<string, StoredTensor>(bundle.files.tensors)
  for (const p of bundle.params) {
    if (p.kind !== 'linear') continue
    const t = tensors.get(tensorName(p))!
    const bytes = blocks(type, new Float32Array((await t.source.read(t.offset, t.bytes)).buffer))
    tensors.set(t.name, { ...t, type, source: fromBytes(t.name, bytes), offset: 0, bytes: bytes.length })
  }
  return openBundle({ ...bundle.files, tensors })
}

/** Rows that count up modulo `period`, from different starts; the first two tokens of a row are context. */
export function tinyRows(o: { rows?: number; length?: number; period?: number } = {}): TokenRows {
  const { rows = 8, length = 12, period = 7 } = o
  const ids = Int32Array.from({ length: rows * length }, (_, i) => 3 + ((Math.floor(i / length) * 3 + (i % length)) % period))
  return {
    ids,
    labels: ids.map((id, i) => (i % length < 2 ? -100 : id)),
    offsets: Uint32Array.from({ length: rows + 1 }, (_, i) => i * length),
  }
}

export const RUN: TrainerOptions = {
  batch: 4,
  seq: 16,
  clip: 0,
  weight_decay: 0,
  policy: 'fast',
  activation_dtype: 'f32',
  lr: 1e-3,
  schedule: 'constant',
  warmup: 0,
  steps: 1000,
  seed: 0,
}
/** A method on a model, filled. */
export async function onGpu(
  bundle: ModelBundle,
  method: AnyMethod | null,
  options: Json = {},
  o: { base?: Base; trainable?: boolean; loaded?: LoadedAdapter | null; optim?: Optimizer } = {},
): Promise<TunableLayout> {
  const { base = 'keep', trainable = method !== null, loaded = null, optim = 'adamw' } = o
  const t = new TunableLayout(
    bundle,
    method,
    options,
    { base, seed: 0, trainable, maxBindingSize: gpu.traits.maxBindingSize, optim },
    loaded,
  )
  await t.fill(gpu)
  return t
}
/** Steps over `data` in file order. */
export async function trainSteps(trainer: Trainer, data: TokenRows, steps: number): Promise<StepRecord[]> {
  const { batch, seq } = trainer.o
  const source = new BatchSource(data, { batch, seq, accum: 1, seed: 0, shuffle: false, pack: false })
  const records: StepRecord[] = []
  for (let i = 0; i < steps; i++) records.push(await trainer.step(source.step(), data))
  return records
}
/** Logits after the last of `ids`. */
export async function logitsOf(t: TunableLayout, ids: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
  const generator = await Generator.create(gpu, t, { capacity: ids.length + (t.adapter?.virtualTokens ?? 0) })
  try {
    return await generator.logits(ids)
  } finally {
    generator.destroy()
  }
}

/** An export as the files it will be. */
export async function filesOf(items: readonly ExportItem[]): Promise<FileSet> {
  const files = new Map<string, ByteSource>()
  for (const item of items) {
    const parts: Uint8Array[] = []
    if ('tensors' in item) for await (const part of streamSafetensors(item.tensors)) parts.push(part)
    else parts.push(typeof item.data === 'string' ? new TextEncoder().encode(item.data) : item.data)
    files.set(item.name, fromBytes(item.name, Buffer.concat(parts)))
  }
  return files
}

/** Loss and gradients of every trained parameter over one batch of all of `data` (its rows must be RUN.batch), before any step; and the parameters. */
export async function gradientsOf(
  trainer: Trainer,
  data: TokenRows,
): Promise<{ loss: number; grads: Map<string, Float32Array>; values: Awaited<ReturnType<ParamSet['read']>> }> {
  const { program, session, o } = trainer
  const { buffers } = program
  const set = program.t.trained!
  const rows = Array.from({ length: o.batch }, (_, r) => r)
  const batch = collate(
    data,
    rows.map((r) => [r]),
    o.seq,
  )
  const first = buffers.prompt > 0 ? rows.map((r) => data.labels[data.offsets[r]]) : null
  const total = buffers.count(batch, first)
  buffers.scale.value = 1 / total
  buffers.write(batch, first)
  buffers.lossSum.write(new Float32Array(4))
  for (const a of set.arenas) a.training!.grad.write(new Float32Array(a.length))
  session.program('micro').run()
  const loss = new Float32Array(await buffers.lossSum.read())[0] / total
  const flat = await Promise.all(set.arenas.map(async (a) => new Float32Array(await a.training!.grad.read())))
  for (const a of set.arenas) a.training!.grad.write(new Float32Array(a.length))
  const grads = new Map(
    set.entries.map((e) => [e.key, flat[e.arena].subarray(e.offset, e.offset + e.shape.reduce((n, d) => n * d, 1))] as const),
  )
  return { loss, grads, values: await set.read() }
}
