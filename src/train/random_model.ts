/** @file A model that is only its config: seeded random weights of those shapes, made as they are read. For plans, and for trials of speed and memory
 * where the real weights are not at hand. */
import { fromFloat32 } from '../io/dequantize.ts'
import type { JsonObject } from '../io/json.ts'
import type { ModelFiles } from '../io/model_files.ts'
import type { ByteSource, StoredTensor } from '../io/source.ts'
import { familyOf } from '../models/registry.ts'
import { paramShape, tensorName } from './bundle.ts'

type RandomType = 'F32' | 'F16' | 'BF16'
const TYPES: Readonly<Record<string, RandomType>> = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' }

/** Standard deviation of matrices: `initializer_range` of most configs. */
const STD = 0.02

/** Element i of a tensor: uniform with deviation STD, from a hash of the two (lowbias32, https://nullprogram.com/blog/2018/07/31/). */
function weight(seed: number, i: number): number {
  let x = (i ^ seed) >>> 0
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d)
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b)
  return (((x ^ (x >>> 16)) >>> 0) / 2 ** 32 - 0.5) * 2 * Math.sqrt(3) * STD
}

/** Reads are whole elements: those of a tensor's rows. */
function source(name: string, type: RandomType, count: number, seed: number): ByteSource {
  const width = type === 'F32' ? 4 : 2
  const constant = name.endsWith('.bias') ? 0 : name.endsWith('norm.weight') || /(^|\.)ln_\w+\.weight$/.test(name) ? 1 : null
  return {
    name,
    size: count * width,
    read: (offset, length) => {
      const first = offset / width
      const values = Float32Array.from({ length: length / width }, (_, i) => constant ?? weight(seed, first + i))
      return Promise.resolve(fromFloat32(type, values))
    },
  }
}

/** Files of a model with this config.json, whose weights are drawn from `seed`, in the type that the config names (`dtype`, before v5 `torch_dtype`). */
export function randomModel(config: JsonObject, name: string, seed = 0): ModelFiles {
  const family = familyOf(config)
  const named = config.dtype ?? config.torch_dtype
  const type = (typeof named === 'string' ? TYPES[named] : null) ?? 'F32'
  const tensors = new Map<string, StoredTensor>()
  const add = (tensor: string, shape: readonly number[]): void => {
    const count = shape.reduce((a, b) => a * b, 1)
    const s = source(tensor, type, count, Math.imul(tensors.size + 1, 0x9e3779b1) ^ seed)
    tensors.set(tensor, { name: tensor, type, shape, source: s, offset: 0, bytes: s.size })
  }
  for (const p of family.params(family.readConfig(config))) {
    const shape = paramShape(p)
    add(tensorName(p), p.kind === 'linear' && family.conv1d?.(p.name) === true ? shape.toReversed() : shape)
    if (p.kind === 'linear' && p.bias) add(`${p.name}.bias`, [p.rows])
  }
  const fileBytes = [...tensors.values()].reduce((n, t) => n + t.bytes, 0)
  return {
    kind: 'safetensors',
    name,
    config,
    gguf: null,
    tensors,
    tokenizer: null,
    generationConfig: null,
    fileBytes,
    storage: type,
    notes: ['The weights are random: what it writes means nothing.'],
  }
}
