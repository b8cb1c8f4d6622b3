/** @file Byte sources over memory and Blobs, and checked ways to read them. Knows no file format and no Node. */
import { FileError } from '../errors.ts'
import type { ByteSource } from './source.ts'

/**
 * Rejects a range that is not inside [0, size).
 * @throws FileError naming the file, the range and the size, all in bytes.
 */
export function checkRange(name: string, size: number, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0 && offset + length <= size) return
  throw new FileError(`Bytes ${offset} to ${offset + length} were asked for, but the file has ${size}`, {
    where: name,
    why: 'The file is truncated, or says something untrue about itself',
    fix: 'Download or copy it again',
  })
}

/**
 * Bytes in memory.
 * @param bytes kept, not copied; reads are copies.
 */
export function fromBytes(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.byteLength,
    read: async (offset, length) => {
      checkRange(name, bytes.byteLength, offset, length)
      const out = new Uint8Array(length)
      out.set(bytes.subarray(offset, offset + length))
      return out
    },
  }
}

/**
 * A dropped or picked File, or any Blob; bytes are read when asked for.
 * @param name overrides the File's own name (which has no folder).
 */
export function fromBlob(blob: Blob, name = blob instanceof File ? blob.name : 'file'): ByteSource {
  return {
    name,
    size: blob.size,
    read: async (offset, length) => {
      checkRange(name, blob.size, offset, length)
      let bytes: Uint8Array<ArrayBuffer>
      try {
        bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer())
      } catch (e) {
        throw new FileError(`The file could not be read (${e instanceof Error ? e.message : String(e)})`, {
          where: name,
          why: 'It was moved, deleted or changed since it was chosen, or memory ran out',
          fix: 'Choose it again',
        })
      }
      checkRange(name, bytes.byteLength, 0, length)
      return bytes
    },
  }
}

/** DataView over exactly these bytes. */
export const viewOf = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength)

/** Part of a source as a source of its own. @throws FileError where the range is outside. */
export function sliceSource(source: ByteSource, offset: number, length: number, name = source.name): ByteSource {
  checkRange(source.name, source.size, offset, length)
  return {
    name,
    size: length,
    read: async (at, n) => {
      checkRange(name, length, at, n)
      return source.read(offset + at, n)
    },
  }
}

/** A whole source, at most `limit` bytes. @throws FileError where it is longer. */
export async function readAll(source: ByteSource, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  if (source.size > limit) {
    throw new FileError(`The file has ${source.size} bytes; at most ${limit} are expected here`, {
      where: source.name,
      why: 'It is probably another file under this name',
      fix: 'Choose the right file',
    })
  }
  return source.read(0, source.size)
}
