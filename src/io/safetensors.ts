/**
 * @file Reading safetensors: a header that is believed only after every claim in it was checked, tensors that are read later. Also shards with an index.
 * Format: u64 little-endian header length, JSON header, then tensor bytes without gaps (huggingface/safetensors, README "Format" and src/tensor.rs).
 */
import { FileError } from '../errors.ts'
import { baseName, besideFile, withExtension } from './file_set.ts'
import { decodeText, field, isObject, parseJson, readJsonObject } from './json.ts'
import type { ByteSource, FileSet, StorageType, StoredTensor } from './source.ts'
import { viewOf } from './sources.ts'
import { elementCount, storedBytes } from './storage.ts'

/** Largest header the reference implementation accepts, bytes. */
const MAX_HEADER = 100_000_000
const TYPES: ReadonlySet<string> = new Set<StorageType>(['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL'])
const isType = (v: unknown): v is StorageType => typeof v === 'string' && TYPES.has(v)

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, StoredTensor>
  /** `__metadata__`: text to text. */
  readonly metadata: ReadonlyMap<string, string>
}

const AGAIN = 'Download or export the file again'
const fail = (where: string, what: string, why = 'The file is truncated or damaged', fix = AGAIN): never => {
  throw new FileError(what, { where, why, fix })
}

async function readHeader(source: ByteSource): Promise<{ readonly text: string; readonly dataStart: number }> {
  const { name, size } = source
  if (size < 8) fail(name, `The file has ${size} bytes; a safetensors file has at least 8`)
  const first = await source.read(0, 8)
  const length = viewOf(first).getBigUint64(0, true)
  if (length > BigInt(size - 8) || length > BigInt(MAX_HEADER)) {
    fail(name, `Its header claims ${length} bytes, but the file has ${size}`, 'The file is truncated, damaged or no safetensors file')
  }
  const text = decodeText(await source.read(8, Number(length)), `${name}, header`)
  if (!text.startsWith('{')) fail(name, 'The header does not begin with {', 'It is no safetensors file')
  return { text, dataStart: 8 + Number(length) }
}

function parseMetadata(value: unknown, name: string): ReadonlyMap<string, string> {
  const out = new Map<string, string>()
  if (value === undefined) return out
  if (!isObject(value)) throw new FileError('__metadata__ is not an object', { where: name, fix: AGAIN })
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw new FileError(`__metadata__ entry "${key}" is not text`, { where: name, fix: AGAIN })
    out.set(key, text)
  }
  return out
}

function parseEntry(tensor: string, entry: unknown, source: ByteSource, dataStart: number): StoredTensor {
  const where = `${source.name}, tensor "${tensor}"`
  if (!isObject(entry)) return fail(where, 'Its entry in the header is not an object')
  const type = field(entry, 'dtype')
  const shape = field(entry, 'shape')
  const range = field(entry, 'data_offsets')
  if (!isType(type)) {
    const why = `Etude reads ${[...TYPES].join(', ')}`
    return fail(
      where,
      `Unknown dtype ${JSON.stringify(type)}`,
      why,
      'Convert the model to one of these, for instance with save_pretrained in bfloat16',
    )
  }
  if (!Array.isArray(shape) || shape.length > 16 || Number.isNaN(elementCount(shape as number[]))) {
    return fail(where, `Its shape ${JSON.stringify(shape)?.slice(0, 100)} is not a list of sizes below 2^53 elements`)
  }
  const [begin, end] = Array.isArray(range) && range.length === 2 ? (range as unknown[]) : []
  if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end) || (begin as number) < 0 || (end as number) < (begin as number)) {
    return fail(where, `Its data_offsets ${JSON.stringify(range)?.slice(0, 100)} are not two increasing byte offsets`)
  }
  const [from, to] = [begin as number, end as number]
  if (to > source.size - dataStart) {
    fail(where, `It should end at byte ${to} of the data, but the data have ${source.size - dataStart}`)
  }
  const needed = storedBytes(type, elementCount(shape as number[]))
  if (needed !== to - from) fail(where, `Shape [${shape.join(', ')}] of ${type} takes ${needed} bytes, its data_offsets give ${to - from}`)
  return { name: tensor, type, shape: shape as number[], source, offset: dataStart + from, bytes: to - from }
}

/**
 * Reads and checks the header of a safetensors file.
 * @throws FileError for a header beyond the file, JSON mistakes, duplicate names, unknown dtypes, shapes that do not fit their bytes, offsets outside
 * the file, overlaps and gaps.
 */
export async function readSafetensors(source: ByteSource): Promise<Safetensors> {
  const { text, dataStart } = await readHeader(source)
  const header = parseJson(text, `${source.name}, header`, true)
  if (!isObject(header)) return fail(source.name, 'The header is not a JSON object')
  const list = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => parseEntry(name, entry, source, dataStart))
  let at = dataStart
  let before = 'the header'
  for (const t of list.toSorted((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (t.offset !== at) {
      const what = t.offset < at ? 'overlaps' : 'leaves a gap after'
      fail(
        source.name,
        `Tensor "${t.name}" ${what} ${before} (byte ${t.offset - dataStart} of the data instead of ${at - dataStart})`,
        'The header is wrong',
      )
    }
    at += t.bytes
    before = `tensor "${t.name}"`
  }
  if (at !== source.size)
    fail(source.name, `${source.size - at} bytes after the last tensor belong to none`, 'The header is wrong, or something was appended')
  return { tensors: new Map(list.map((t) => [t.name, t])), metadata: parseMetadata(field(header, '__metadata__'), source.name) }
}

/** Shards by an index file. Every tensor of the index must be in its shard; names must be unique over all shards. */
async function readShards(index: ByteSource, files: FileSet): Promise<Safetensors> {
  const map = field(await readJsonObject(index), 'weight_map')
  if (!isObject(map) || Object.keys(map).length === 0) return fail(index.name, 'It has no weight_map (tensor name → file)')
  const shards = new Set<string>()
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !/^[\w.-]+\.safetensors$/.test(file)) {
      return fail(index.name, `weight_map sends "${tensor}" to ${JSON.stringify(file)?.slice(0, 100)}, which is no safetensors file name`)
    }
    shards.add(file)
  }
  const missing = [...shards].filter((s) => !files.has(s))
  if (missing.length)
    fail(
      index.name,
      `${missing.length} of ${shards.size} parts are missing: ${missing.slice(0, 5).join(', ')}`,
      'The model cannot be whole without them',
      'Add these files',
    )
  const tensors = new Map<string, StoredTensor>()
  const metadata = new Map<string, string>()
  for (const shard of [...shards].sort()) {
    const part = await readSafetensors(files.get(shard) as ByteSource)
    for (const [name, t] of part.tensors) {
      if (tensors.has(name)) fail(shard, `Tensor "${name}" is in ${tensors.get(name)?.source.name} too`, 'It is not clear which one counts')
      tensors.set(name, t)
    }
    for (const [k, v] of part.metadata) metadata.set(k, v)
  }
  for (const [tensor, file] of Object.entries(map)) {
    if (tensors.get(tensor)?.source !== files.get(file as string))
      fail(
        String(file),
        `Tensor "${tensor}" is not in it, although ${index.name} says so`,
        'Parts of different models or versions are mixed',
      )
  }
  return { tensors, metadata }
}

/**
 * The weights among a set of files: model.safetensors, else shards by model.safetensors.index.json, else the only .safetensors file.
 * @throws FileError where there are none, parts are missing, or it is not clear which is meant.
 */
export async function readSafetensorsSet(files: FileSet): Promise<Safetensors> {
  const single = besideFile(files, 'model.safetensors')?.get('model.safetensors')
  if (single) return readSafetensors(single)
  const sharded = besideFile(files, 'model.safetensors.index.json')
  const index = sharded?.get('model.safetensors.index.json')
  if (sharded && index) return readShards(index, sharded)
  const [lone, second] = withExtension(files, '.safetensors')
  if (lone === undefined) {
    throw new FileError('There is no .safetensors file', {
      where: [...files.keys()].slice(0, 5).join(', ') || 'no files',
      why: 'The weights are read from it',
      fix: 'Add model.safetensors, or all its parts with model.safetensors.index.json. Weights in .bin can be converted: from_pretrained, then save_pretrained(safe_serialization=True)',
    })
  }
  if (second !== undefined) {
    const part = /-\d{5}-of-\d{5}\.safetensors$/.test(baseName(lone))
    throw new FileError(part ? 'model.safetensors.index.json is missing' : `There are several .safetensors files (${lone}, ${second} …)`, {
      why: part ? 'It says which tensors are in which part' : 'It is not clear which one is meant',
      fix: part ? 'Add it' : 'Choose one folder, or one file',
    })
  }
  return readSafetensors(files.get(lone) as ByteSource)
}
