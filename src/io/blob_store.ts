/** @file A small store of files by key: what checkpoints, runs and downloads are kept in. The interface, and an implementation in memory for Node and tests. */
import { FileError } from '../errors.ts'
import type { ByteSource } from './source.ts'
import { fromBytes } from './sources.ts'

/** Bytes to be stored, at once or piece by piece. */
export type BlobData = Uint8Array<ArrayBuffer> | Blob | AsyncIterable<Uint8Array<ArrayBuffer>>

export interface BlobInfo {
  readonly key: string
  /** Bytes. */
  readonly size: number
}

/** Keys are paths of plain names, "runs/1/checkpoint.safetensors"; see `checkKey`. Every failure is a FileError naming the key. */
export interface BlobStore {
  /** Files whose key begins with `prefix`, by key. */
  list(prefix: string): Promise<BlobInfo[]>
  /** A file as it is now; null where there is none. Writing it anew makes earlier sources of it fail, not lie. */
  read(key: string): Promise<ByteSource | null>
  /** Replaces a file whole or not at all: after a crash the old or the new one is there. Streams that fail leave the old one. */
  write(key: string, data: BlobData): Promise<void>
  /** Adds to the end of a file, making it if need be. Not atomic: after a crash a part may be there. */
  append(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>
  /** Renames, replacing what has the name. Atomic. */
  move(from: string, to: string): Promise<void>
  /** Removes a file; no error where there is none. */
  remove(key: string): Promise<void>
  /** Bytes that may still be stored, null where unknown. */
  available(): Promise<number | null>
}

/** Names of files that are being written; no key may look like one. */
export const TEMPORARY = '.tmp~'

/** Refuses keys that are not 1 to 12 names of at most 200 letters, digits and `. _ - + =`, separated by slashes, none beginning with a dot. @throws FileError. */
export function checkKey(key: string): readonly string[] {
  const names = key.split('/')
  if (names.length <= 12 && names.every((n) => /^[A-Za-z0-9_+=-][A-Za-z0-9._+=-]{0,199}$/.test(n) && !n.includes(TEMPORARY))) return names
  throw new FileError(`${JSON.stringify(key.slice(0, 100))} is no name for a stored file`, {
    fix: 'Use letters, digits, dots, dashes and underscores',
  })
}

/** A name for a store out of any text: what a key may not have is written as "=" and hex digits. "" becomes "=". */
export function keyPart(text: string): string {
  const bytes = new TextEncoder().encode(text)
  const out = Array.from(bytes, (b, i) => {
    const c = String.fromCharCode(b)
    return /[A-Za-z0-9_-]/.test(c) || (c === '.' && i > 0) ? c : `=${b.toString(16).padStart(2, '0')}`
  }).join('')
  return out === '' ? '=' : out
}

/** Pieces of data to be stored, in order. */
export async function* pieces(data: BlobData): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  if (data instanceof Uint8Array) yield data
  else if (data instanceof Blob) {
    const step = 16 * 2 ** 20
    for (let at = 0; at < data.size; at += step) yield new Uint8Array(await data.slice(at, at + step).arrayBuffer())
  } else yield* data
}

const concat = (parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const p of parts) {
    out.set(p, at)
    at += p.length
  }
  return out
}

export const noSuchFile = (key: string): FileError =>
  new FileError('There is no such stored file', { where: key, why: 'It was removed, perhaps in another tab', fix: 'Reload the page' })
export const outOfSpace = (key: string): FileError =>
  new FileError('There is no room left to store it', {
    where: key,
    why: 'The browser limits what a page may keep on disk, or the disk is full',
    fix: 'Delete old runs or downloaded models in the studio, or free space on the disk, and try again. What was stored before is untouched',
  })

/** A store in memory. @param quota bytes it may hold. */
export function memoryStore(quota = Infinity): BlobStore {
  const files = new Map<string, Uint8Array<ArrayBuffer>>()
  const used = (except?: string): number => [...files].reduce((n, [k, v]) => n + (k === except ? 0 : v.length), 0)
  const put = (key: string, bytes: Uint8Array<ArrayBuffer>): void => {
    if (used(key) + bytes.length > quota) throw outOfSpace(key)
    files.set(key, bytes)
  }
  return {
    list: async (prefix) =>
      [...files]
        .filter(([k]) => k.startsWith(prefix))
        .map(([key, b]) => ({ key, size: b.length }))
        .sort((a, b) => (a.key < b.key ? -1 : 1)),
    read: async (key) => {
      checkKey(key)
      const bytes = files.get(key)
      return bytes ? fromBytes(key, bytes) : null
    },
    write: async (key, data) => {
      checkKey(key)
      const parts: Uint8Array[] = []
      for await (const p of pieces(data)) parts.push(p)
      put(key, concat(parts))
    },
    append: async (key, bytes) => {
      checkKey(key)
      put(key, concat([files.get(key) ?? new Uint8Array(0), bytes]))
    },
    move: async (from, to) => {
      checkKey(to)
      const bytes = files.get(from)
      if (!bytes) throw noSuchFile(from)
      files.delete(from)
      files.set(to, bytes)
    },
    remove: async (key) => {
      checkKey(key)
      files.delete(key)
    },
    available: async () => (quota === Infinity ? null : quota - used()),
  }
}
