/** @file A model as opened from its files: what it is, before any of its weights are read. */
import { ModelError } from '../errors.ts'
import { toFloat32 } from '../io/dequantize.ts'
import type { ModelFiles } from '../io/model_files.ts'
import { gatherRows } from '../io/repack.ts'
import { transposed } from '../io/transposed.ts'
import type { StoredTensor } from '../io/source.ts'
import type { Json, ModelConfig, ModelFamily, Param } from '../models/family.ts'
import { familyOf, familyOfGguf } from '../models/registry.ts'

export interface ModelBundle {
  readonly files: ModelFiles
  readonly family: ModelFamily
  readonly config: ModelConfig
  /** config.json, as read or as made from GGUF metadata. */
  readonly rawConfig: Json
  readonly params: readonly Param[]
  /** Module paths of the linear layers: what `all-linear` means. */
  readonly linears: readonly string[]
}

/** Tensor name of a parameter. */
export const tensorName = (p: Param): string => (p.kind === 'linear' ? `${p.name}.weight` : p.name)
export const paramShape = (p: Param): readonly number[] => (p.kind === 'vector' ? [p.size] : [p.rows, p.cols])

/** Read the config, check that every tensor is there with its shape, and that there is none beside them. */
export function openBundle(files: ModelFiles): ModelBundle {
  const { family, rawConfig } =
    files.kind === 'gguf'
      ? (() => {
          const f = familyOfGguf(files.gguf.get('general.architecture'))
          return { family: f, rawConfig: f.ggufConfig(files.gguf, new Set(files.tensors.keys())) }
        })()
      : { family: familyOf(files.config), rawConfig: files.config }
  refuseQuantised(rawConfig)
  const config = family.readConfig(rawConfig)
  const params = family.params(config)
  const bundle = { files, family, config, rawConfig, params, linears: params.flatMap((p) => (p.kind === 'linear' ? [p.name] : [])) }
  const read = new Set<string>()
  const check = (name: string, shape: readonly number[]): void => {
    stored(bundle, name, shape)
    read.add(nameInFile(bundle, name))
  }
  for (const p of params) {
    check(tensorName(p), paramShape(p))
    if (p.kind === 'linear' && p.bias) check(`${p.name}.bias`, [p.rows])
  }
  refuseUnread(bundle, read)
  return bundle
}

/** Names of `quant_method`, where they are written otherwise. */
const QUANTISERS: Readonly<Record<string, string>> = { gptq: 'GPTQ', awq: 'AWQ', fp8: 'FP8', mxfp4: 'MXFP4' }

/** Refuses checkpoints whose safetensors hold packed weights: all that Transformers reads with a `quantization_config`. */
function refuseQuantised({ quantization_config: q }: Json): void {
  if (typeof q !== 'object' || q === null) return
  const { quant_method, load_in_4bit, load_in_8bit } = q as Json
  // Files of early Transformers name no method: then it was bitsandbytes.
  const unnamed = load_in_4bit === true || load_in_8bit === true ? 'bitsandbytes' : 'an unnamed method'
  const method = typeof quant_method === 'string' ? quant_method : unnamed
  throw new ModelError(`the weights are quantised by ${QUANTISERS[method] ?? method}`, {
    where: 'config.json, quantization_config',
    why: 'weights packed that way are not read here',
    fix: 'Use the repository that the model was quantised from (its weights can be quantised on load), or a GGUF file of the model',
  })
}

/** What Transformers does not read from a checkpoint either: the head of a model whose head is the embedding. */
const isTiedHead = (b: ModelBundle, name: string): boolean => b.files.kind === 'safetensors' && b.config.tied && name === 'lm_head.weight'

/** Refuses tensors of the model that nothing here reads. Those of other modules, such as a value head's, are not the model's; GGUF files have none. */
function refuseUnread(b: ModelBundle, read: ReadonlySet<string>): void {
  const module = (name: string): string => name.split('.')[0]
  const modules = new Set(['lm_head', ...[...read].map(module)])
  const unread = [...b.files.tensors.keys()].filter(
    (name) =>
      !read.has(name) &&
      !isTiedHead(b, name) &&
      b.family.holdsNoWeights?.(name) !== true &&
      (b.files.kind === 'gguf' || modules.has(module(name))),
  )
  if (unread.length === 0) return
  const names = unread.slice(0, 3).join(', ') + (unread.length > 3 ? ` and ${unread.length - 3} more` : '')
  throw new ModelError(`${unread.length} of its tensors are not part of a ${b.family.title} model with this config: ${names}`, {
    where: b.files.name,
    why: 'the model was trained with them, and without them it would compute something else',
    fix:
      b.files.kind === 'gguf'
        ? 'Use the safetensors form of this model, whose config.json says what they are'
        : 'Take config.json and the weights from the same place',
  })
}

/** The name in the file of a Hugging Face tensor. */
function nameInFile(b: Pick<ModelBundle, 'files' | 'family'>, name: string): string {
  const names = b.files.kind === 'gguf' ? [b.family.ggufName(name)] : [name, ...(b.family.aliases?.(name) ?? [])]
  return names.find((n) => b.files.tensors.has(n)) ?? names[0]
}

/** The stored tensor of a Hugging Face name. Throws ModelError when it is missing or has another shape. */
export function stored(b: Pick<ModelBundle, 'files' | 'family' | 'config'>, name: string, shape: readonly number[]): StoredTensor {
  const gguf = b.files.kind === 'gguf'
  const inFile = nameInFile(b, name)
  const found = b.files.tensors.get(inFile)
  const t =
    found && !gguf && b.family.conv1d?.(name.replace(/\.weight$/, '')) === true && found.shape.length === 2 ? transposed(found) : found
  const where = `${b.files.name}, tensor ${inFile}`
  if (!t)
    throw new ModelError('the tensor is missing', {
      where,
      why: `a ${b.family.title} model with this config has it`,
      fix: 'Check that all shards are there and that config.json belongs to these weights',
    })
  if (t.shape.length !== shape.length || t.shape.some((n, i) => n !== shape[i]))
    throw new ModelError(`the shape is [${t.shape.join(', ')}], expected [${shape.join(', ')}] by the config`, {
      where,
      why: 'the weights and the config describe different models',
      fix: 'Take config.json and the weights from the same place',
    })
  return t
}

/** Bytes of rows [from, from + rows) of a tensor in Hugging Face's row order. */
export async function readRows(
  b: ModelBundle,
  t: StoredTensor,
  name: string,
  from = 0,
  rows = t.shape[0],
): Promise<Uint8Array<ArrayBuffer>> {
  const rowBytes = t.bytes / t.shape[0]
  const order = b.files.kind === 'gguf' ? b.family.ggufRowOrder(name, b.config) : null
  if (!order) return t.source.read(t.offset + from * rowBytes, rows * rowBytes)
  // Rows move within their head: those asked for lie close together.
  const wanted = order.slice(from, from + rows)
  const first = wanted.reduce((a, b) => Math.min(a, b), t.shape[0])
  const last = wanted.reduce((a, b) => Math.max(a, b), 0)
  const bytes = await t.source.read(t.offset + first * rowBytes, (last + 1 - first) * rowBytes)
  for (let i = 0; i < rows; i++) wanted[i] -= first
  return gatherRows(bytes, rowBytes, wanted)
}

/** A tensor as f32 values in Hugging Face's order. Throws ModelError for NaN or infinite weights. */
export async function readFloats(
  b: ModelBundle,
  name: string,
  shape: readonly number[],
  from = 0,
  rows = shape[0],
): Promise<Float32Array<ArrayBuffer>> {
  const t = stored(b, name, shape)
  const count = rows * shape.slice(1).reduce((x, y) => x * y, 1)
  const values = toFloat32(t.type, await readRows(b, t, name, from, rows), count)
  const shift = b.files.kind === 'gguf' ? (b.family.ggufShift?.(name) ?? 0) : 0
  if (shift !== 0) for (let i = 0; i < count; i++) values[i] -= shift
  requireFinite(values, name, b.files.name)
  return values
}

export function requireFinite(values: Float32Array, name: string, file: string): void {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) notFinite(i, values[i], name, file)
}
/** Refuses element `i` of a tensor. */
export function notFinite(i: number, value: number, name: string, file: string): never {
  throw new ModelError(`element ${i} is ${value}`, {
    where: `${file}, tensor ${name}`,
    why: 'one such weight makes every output NaN',
    fix: 'The file is damaged: fetch it again from its source',
  })
}
