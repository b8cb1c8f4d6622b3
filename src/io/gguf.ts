/**
 * @file Reading GGUF v2 and v3: metadata and where the tensors lie. Every count and offset is checked against the file before it is used.
 * Format: ggml-org/ggml docs/gguf.md; type ids: ggml/include/ggml.h.
 */
import { FileError } from '../errors.ts'
import { GgufCursor, ShortRead, type GgufValue } from './gguf_cursor.ts'
import type { ByteSource, StorageType, StoredTensor } from './source.ts'
import { BLOCKS, elementCount, storedBytes } from './storage.ts'

export type { GgufArray, GgufValue } from './gguf_cursor.ts'

export interface Gguf {
  readonly version: number
  readonly metadata: ReadonlyMap<string, GgufValue>
  /** Shapes outermost first: the file's `ne` reversed. */
  readonly tensors: ReadonlyMap<string, StoredTensor>
}

const TYPES: Readonly<Record<number, StorageType>> = {
  0: 'F32', 1: 'F16', 2: 'Q4_0', 3: 'Q4_1', 6: 'Q5_0', 7: 'Q5_1', 8: 'Q8_0', 10: 'Q2_K', 11: 'Q3_K', 12: 'Q4_K', 13: 'Q5_K', 14: 'Q6_K',
  24: 'I8', 25: 'I16', 26: 'I32', 27: 'I64', 28: 'F64', 30: 'BF16',
} // prettier-ignore
/** Types that exist but are not read. */
const OTHER: Readonly<Record<number, string>> = {
  9: 'Q8_1', 15: 'Q8_K', 16: 'IQ2_XXS', 17: 'IQ2_XS', 18: 'IQ3_XXS', 19: 'IQ1_S', 20: 'IQ4_NL', 21: 'IQ3_S', 22: 'IQ2_S', 23: 'IQ4_XS', 29: 'IQ1_M',
  34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4',
} // prettier-ignore

const MAX_HEADER = 256 * 2 ** 20
const MAX_TENSORS = 1_000_000
const MAX_KEYS = 100_000
const FIRST_READ = 2 ** 20

interface TensorInfo {
  readonly name: string
  readonly type: StorageType
  readonly shape: readonly number[]
  readonly offset: number
}

function checkVersion(c: GgufCursor): number {
  if (c.u32() !== 0x46554747) c.fail('It does not begin with the letters GGUF', 'It is no GGUF file')
  const version = c.u32()
  if (version === 2 || version === 3) return version
  if (version > 0xffff)
    return c.fail('It is big-endian', 'Only little-endian GGUF files are read', 'Convert it with gguf_convert_endian.py of llama.cpp')
  return c.fail(`It has GGUF version ${version}`, 'Versions 2 and 3 are read', 'Convert the model again with a current llama.cpp')
}

function readTensorInfo(c: GgufCursor): TensorInfo {
  const name = c.name('tensor name')
  c.at = `tensor "${name}"`
  const rank = c.u32()
  if (rank > 4) c.fail(`It has ${rank} dimensions; GGUF has at most 4`)
  const shape = Array.from({ length: rank }, () => c.u64()).reverse()
  const id = c.u32()
  const type = TYPES[id]
  if (type === undefined) {
    const fix = 'Use a file quantised as Q4_0, Q4_1, Q8_0, a K-quant (Q4_K_M …), F16 or BF16'
    return c.fail(
      OTHER[id] ? `Its quantisation, ${OTHER[id]}, is not supported` : `Its type ${id} is unknown`,
      'Its weights cannot be read',
      fix,
    )
  }
  const [block] = BLOCKS[type]
  if (Number.isNaN(elementCount(shape))) c.fail(`Its shape [${shape.join(', ')}] is larger than 2^53 elements`)
  if ((shape.at(-1) ?? 1) % block !== 0) c.fail(`Its rows have ${shape.at(-1)} elements, which are no whole blocks of ${block} (${type})`)
  return { name, type, shape, offset: c.u64() }
}

interface Header {
  readonly version: number
  readonly metadata: Map<string, GgufValue>
  readonly infos: readonly TensorInfo[]
  readonly end: number
}

function parseHeader(c: GgufCursor): Header {
  const version = checkVersion(c)
  const tensorCount = c.count('tensors', MAX_TENSORS, 24)
  const keyCount = c.count('metadata entries', MAX_KEYS, 13)
  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < keyCount; i++) {
    c.at = `metadata entry ${i + 1}`
    const key = c.name('key')
    c.at = `metadata "${key}"`
    if (metadata.has(key)) c.fail('This key is there twice', 'It is not clear which one counts')
    metadata.set(key, c.value(c.u32()))
  }
  const infos: TensorInfo[] = []
  for (let i = 0; i < tensorCount; i++) {
    c.at = `tensor ${i + 1}`
    infos.push(readTensorInfo(c))
  }
  return { version, metadata, infos, end: c.offset }
}

/** Parses with the first bytes and, where they do not suffice, again with four times as many. */
async function readHeader(source: ByteSource): Promise<Header> {
  let bytes = await source.read(0, Math.min(source.size, FIRST_READ))
  for (;;) {
    try {
      return parseHeader(new GgufCursor(bytes, source.name, source.size))
    } catch (e) {
      if (!(e instanceof ShortRead)) throw e
      const length = Math.min(source.size, Math.max(e.needed, bytes.length * 4))
      if (e.needed > MAX_HEADER)
        throw new FileError(`Its header is longer than ${MAX_HEADER} bytes`, {
          where: source.name,
          why: 'The file is damaged',
          fix: 'Download it again',
        })
      const more = new Uint8Array(Math.min(length, MAX_HEADER))
      more.set(bytes)
      more.set(await source.read(bytes.length, more.length - bytes.length), bytes.length)
      bytes = more
    }
  }
}

function locate(infos: readonly TensorInfo[], source: ByteSource, dataStart: number, alignment: number): Map<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>()
  const damaged = { why: 'The file is truncated or damaged', fix: 'Download it again' }
  for (const { name, type, shape, offset } of infos) {
    const where = `${source.name}, tensor "${name}"`
    const bytes = storedBytes(type, elementCount(shape))
    if (tensors.has(name)) throw new FileError('This tensor is there twice', { where, ...damaged })
    if (offset % alignment !== 0) throw new FileError(`Its offset ${offset} is not a multiple of ${alignment}`, { where, ...damaged })
    if (!(offset + bytes <= source.size - dataStart)) {
      throw new FileError(`It should end at byte ${dataStart + offset + bytes}, but the file has ${source.size}`, { where, ...damaged })
    }
    tensors.set(name, { name, type, shape, source, offset: dataStart + offset, bytes })
  }
  let end = 0
  for (const t of [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (t.offset < end && t.bytes > 0)
      throw new FileError('Its bytes overlap those of another tensor', { where: `${source.name}, tensor "${t.name}"`, ...damaged })
    end = Math.max(end, t.offset + t.bytes)
  }
  return tensors
}

/**
 * Reads metadata and tensor positions of a GGUF file; no weights.
 * @throws FileError for everything the file claims and cannot hold: counts, lengths, types, offsets, overlaps, 64-bit numbers beyond 2^53.
 */
export async function readGguf(source: ByteSource): Promise<Gguf> {
  const { version, metadata, infos, end } = await readHeader(source)
  const alignment = metadata.get('general.alignment') ?? 32
  if (typeof alignment !== 'number' || alignment < 1 || alignment > 2 ** 20 || !Number.isInteger(Math.log2(alignment))) {
    throw new FileError(`general.alignment is ${String(alignment)}, not a power of two`, {
      where: source.name,
      why: 'Tensors cannot be found without it',
      fix: 'Download the file again',
    })
  }
  const dataStart = Math.ceil(end / alignment) * alignment
  return { version, metadata, tensors: locate(infos, source, dataStart, alignment) }
}
