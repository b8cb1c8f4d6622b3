/**
 * @file Writing safetensors, at once or as a stream. The same bytes as the reference implementation: tensors by falling dtype then name, header padded with
 * spaces to 8 bytes (huggingface/safetensors, src/tensor.rs `prepare`).
 */
import { FileError } from '../errors.ts'
import type { StorageType } from './source.ts'
import { elementCount, storedBytes } from './storage.ts'

/** Rising order of the reference implementation's dtypes; block-quantised types have none and cannot be written. */
const ORDER: readonly StorageType[] = ['BOOL', 'U8', 'I8', 'I16', 'F16', 'BF16', 'I32', 'F32', 'F64', 'I64']

export interface TensorSpec {
  readonly name: string
  readonly type: StorageType
  /** Row-major, outermost first. */
  readonly shape: readonly number[]
}
export interface TensorData extends TensorSpec {
  /** Elements, little-endian, contiguous. */
  readonly data: ArrayBufferView
}
/** A tensor whose bytes are made when its turn comes. */
export interface TensorStream extends TensorSpec {
  readonly load: () => Promise<ArrayBufferView> | ArrayBufferView
}

export interface SafetensorsLayout<T extends TensorSpec> {
  /** Length, JSON and padding. */
  readonly header: Uint8Array<ArrayBuffer>
  /** Tensors in file order with where their bytes lie in the file. */
  readonly order: readonly { readonly tensor: T; readonly offset: number; readonly bytes: number }[]
  /** Bytes of the whole file. */
  readonly size: number
}

/** UTF-8 byte order, which is code point order and not the order of JavaScript strings. */
function compareNames(a: string, b: string): number {
  const [x, y] = [Array.from(a, (c) => c.codePointAt(0) ?? 0), Array.from(b, (c) => c.codePointAt(0) ?? 0)]
  for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) return (x[i] ?? 0) - (y[i] ?? 0)
  return x.length - y.length
}

/** Header and order of a file. @throws FileError for duplicate or reserved names, types that safetensors has not, and shapes that are none. */
export function layoutSafetensors<T extends TensorSpec>(
  tensors: Iterable<T>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): SafetensorsLayout<T> {
  const list = [...tensors]
  const names = new Set<string>()
  for (const t of list) {
    const where = `tensor "${t.name}"`
    if (names.has(t.name) || t.name === '__metadata__')
      throw new FileError(names.has(t.name) ? 'Two tensors have this name' : 'This name is reserved', { where })
    if (!ORDER.includes(t.type))
      throw new FileError(`Safetensors cannot hold ${t.type}`, { where, fix: 'Convert it to F32, F16 or BF16 first' })
    if (Number.isNaN(elementCount(t.shape))) throw new FileError(`[${t.shape.join(', ')}] is not a shape`, { where })
    names.add(t.name)
  }
  list.sort((a, b) => ORDER.indexOf(b.type) - ORDER.indexOf(a.type) || compareNames(a.name, b.name))
  let at = 0
  const spans = list.map((tensor) => {
    const bytes = storedBytes(tensor.type, elementCount(tensor.shape))
    at += bytes
    return { tensor, offset: at - bytes, bytes }
  })
  const entries = spans.map(
    ({ tensor: { name, type, shape }, offset, bytes }) =>
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: type, shape, data_offsets: [offset, offset + bytes] })}`,
  )
  const sorted = Object.entries(metadata).sort((a, b) => compareNames(a[0], b[0]))
  if (sorted.length) entries.unshift(`"__metadata__":{${sorted.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(',')}}`)
  const json = new TextEncoder().encode(`{${entries.join(',')}}`)
  const length = Math.ceil(json.length / 8) * 8
  const header = new Uint8Array(8 + length).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true)
  header.set(json, 8)
  return { header, order: spans.map((s) => ({ ...s, offset: s.offset + header.length })), size: header.length + at }
}

function bytesOf(data: ArrayBufferView, { name }: TensorSpec, expected: number): Uint8Array<ArrayBuffer> {
  if (data.byteLength !== expected)
    throw new FileError(`Its shape takes ${expected} bytes, its data have ${data.byteLength}`, { where: `tensor "${name}"` })
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
}

/** A whole safetensors file in memory. @throws FileError as `layoutSafetensors`, and where data do not have the bytes of their shape. */
export function writeSafetensors(tensors: Iterable<TensorData>, metadata?: Readonly<Record<string, string>>): Uint8Array<ArrayBuffer> {
  const { header, order, size } = layoutSafetensors(tensors, metadata)
  const out = new Uint8Array(size)
  out.set(header)
  for (const { tensor, offset, bytes } of order) out.set(bytesOf(tensor.data, tensor, bytes), offset)
  return out
}

/** The same file piece by piece, one tensor in memory at a time; `layoutSafetensors(…).size` tells its length. */
export async function* streamSafetensors(
  tensors: Iterable<TensorStream>,
  metadata?: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const { header, order } = layoutSafetensors(tensors, metadata)
  yield header
  for (const { tensor, bytes } of order) yield bytesOf(await tensor.load(), tensor, bytes)
}

/** The same file as a Blob. Each tensor becomes a Blob of its own at once, which browsers may keep on disk. */
export async function safetensorsBlob(tensors: Iterable<TensorStream>, metadata?: Readonly<Record<string, string>>): Promise<Blob> {
  const parts: Blob[] = []
  for await (const piece of streamSafetensors(tensors, metadata)) parts.push(new Blob([piece]))
  return new Blob(parts, { type: 'application/octet-stream' })
}
