/** @file The bench model in Etude: the engine that the studio runs, fed from memory as if from a safetensors folder. */
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import { openModel } from '../src/io/model_files.ts'
import { fromBytes } from '../src/io/sources.ts'
import { writeSafetensors } from '../src/io/safetensors_writer.ts'
import type { Batch as EtudeBatch } from '../src/data/collate.ts'
import type { TokenRows } from '../src/data/types.ts'
import type { State } from '../src/train/adapter.ts'
import { openBundle, type ModelBundle } from '../src/train/bundle.ts'
import { Trainer as EtudeTrainer } from '../src/train/trainer.ts'
import { findMethod, TunableLayout } from '../src/train/tunable.ts'
import type { Forward, Matmul, MatmulShape } from './engines.ts'
import {
  ADAMW,
  BATCH,
  type Batch,
  LORA,
  type Method,
  MODEL,
  PROJECTION_NAMES,
  PROJECTIONS,
  SEQ,
  type Trainer,
  type Weights,
} from './model.ts'
import { preparedGpu } from './prepared.ts'
import { engineMatmul } from './programs.ts'

const module = (layer: number, name: string): string => `model.layers.${layer}.${/^[qkvo]_/.test(name) ? 'self_attn' : 'mlp'}.${name}`

/** The bench model as a model folder in memory. */
export async function benchBundle(weights: Weights): Promise<ModelBundle> {
  const C = MODEL.hidden_size
  const f32 = (name: string, shape: readonly number[], data: Float32Array) => ({ name, type: 'F32' as const, shape, data })
  const tensors = [
    f32('model.embed_tokens.weight', [MODEL.vocab_size, C], weights.embed_tokens),
    f32('model.norm.weight', [C], weights.norm),
    ...weights.layers.flatMap((l, i) => [
      f32(`model.layers.${i}.input_layernorm.weight`, [C], l.input_layernorm),
      f32(`model.layers.${i}.post_attention_layernorm.weight`, [C], l.post_attention_layernorm),
      ...PROJECTION_NAMES.map((name) => f32(`${module(i, name)}.weight`, PROJECTIONS[name], l.projections[name])),
    ]),
  ]
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    ...MODEL,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    max_position_embeddings: SEQ,
  }
  const files = new Map([
    ['config.json', fromBytes('config.json', new TextEncoder().encode(JSON.stringify(config)))],
    ['model.safetensors', fromBytes('model.safetensors', writeSafetensors(tensors))],
  ])
  return openBundle(await openModel(files, 'bench model'))
}

/** The initial adapter under its state-dict names. */
function adapterState(weights: Weights): State {
  const key = (layer: number, name: string, part: 'A' | 'B') => `base_model.model.${module(layer, name)}.lora_${part}.weight`
  const state = new Map<string, { shape: readonly number[]; data: Float32Array<ArrayBuffer> }>()
  weights.layers.forEach((l, i) => {
    for (const name of PROJECTION_NAMES) {
      const [out, inputs] = PROJECTIONS[name]
      state.set(key(i, name, 'A'), { shape: [LORA.r, inputs], data: new Float32Array(l.lora[name].A) })
      state.set(key(i, name, 'B'), { shape: [out, LORA.r], data: new Float32Array(l.lora[name].B) })
    }
  })
  return state
}

const NO_ROWS: TokenRows = { ids: new Int32Array(0), labels: new Int32Array(0), offsets: new Uint32Array(1) }

/** A bench batch as the collator lays it out. */
function etudeBatch({ ids, labels, tokens }: Batch): EtudeBatch {
  return {
    B: BATCH,
    T: SEQ,
    ids: new Int32Array(ids),
    labels: new Int32Array(labels),
    lengths: new Int32Array(BATCH).fill(SEQ),
    positions: Int32Array.from({ length: BATCH * SEQ }, (_, i) => i % SEQ),
    segmentStart: new Int32Array(BATCH * SEQ),
    labelled: tokens,
    rows: [],
  }
}

/** What a step and an evaluation are planned with. */
const PLANNED = {
  batch: BATCH,
  seq: SEQ,
  clip: 0,
  weight_decay: 0,
  policy: 'fast',
  activation_dtype: 'f32',
  lr: ADAMW.lr,
  schedule: 'constant',
  warmup: 0,
  steps: 1_000_000,
  seed: 0,
} as const

export interface BenchTrainer extends Trainer {
  readonly plannedBytes: number
  readonly trainer: EtudeTrainer
}

/** @param gpu a device to share; by default one of its own. */
export async function create(weights: Weights, method: Method, gpu?: Gpu): Promise<BenchTrainer> {
  const device = gpu ?? (await preparedGpu()).gpu
  const bundle = await benchBundle(weights)
  const lora = method === 'lora'
  const options = lora ? { r: LORA.r, alpha: LORA.alpha } : {}
  const chosen = findMethod(method)
  const o = { base: 'f32', seed: 0, trainable: true, maxBindingSize: device.traits.maxBindingSize } as const
  const loaded = lora ? { method: chosen, options, values: adapterState(weights), targets: bundle.linears, notes: [] } : null
  const tunable = new TunableLayout(bundle, chosen, options, o, loaded)
  await tunable.fill(device)
  const trainer = await EtudeTrainer.create(device, tunable, PLANNED)
  return {
    plannedBytes: trainer.program.plan.total,
    trainer,
    step: async (batch) => (await trainer.step([etudeBatch(batch)], NO_ROWS)).loss,
    dispose: () => {
      trainer.destroy()
      tunable.destroy()
      if (!gpu) device.destroy()
    },
  }
}

/** A batch as rows of data, whose labels are not shifted yet: the collator does that, and none is left for a row's last position. */
const rowsOf = ({ ids }: Batch): TokenRows => ({
  ids: new Int32Array(ids),
  labels: new Int32Array(ids),
  offsets: Uint32Array.from({ length: BATCH + 1 }, (_, i) => i * SEQ),
})

/** As the held-out loss is measured. @param gpu a device to share; by default one of its own. */
export async function createForward(weights: Weights, gpu?: Gpu): Promise<Forward> {
  const device = gpu ?? (await preparedGpu()).gpu
  const o = { base: 'f32', seed: 0, trainable: false, maxBindingSize: device.traits.maxBindingSize } as const
  const model = new TunableLayout(await benchBundle(weights), null, {}, o)
  await model.fill(device)
  const trainer = await EtudeTrainer.create(device, model, PLANNED)
  return {
    plannedBytes: trainer.program.plan.total,
    loss: async (batch) => (await trainer.evaluate(rowsOf(batch))).loss,
    dispose: () => {
      trainer.destroy()
      model.destroy()
      if (!gpu) device.destroy()
    },
  }
}

/** The kernel that a training step would use for this product. */
export async function createMatmul({ M, N, K }: MatmulShape, a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>): Promise<Matmul> {
  const { gpu } = await preparedGpu()
  const weight = { format: 'f32', weight: { data: b, scales: null } } as const
  const matmul = await engineMatmul(gpu, targetOf(gpu.traits), 'nn', { M, N, K }, a, weight)
  return { ...matmul, dispose: () => gpu.destroy() }
}
