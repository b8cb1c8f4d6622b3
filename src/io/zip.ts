/**
 * @file Zip files, read with suspicion and written. Reading knows stored and deflated entries and zip64 (PKWARE APPNOTE 6.3.10), checks every CRC-32, and bounds the
 * number of entries, the bytes they unpack to and the names they may have.
 */
import { downloadZip } from 'client-zip'
import { inflateSync } from 'fflate'
import { FileError } from '../errors.ts'
import { withExtension } from './file_set.ts'
import type { ByteSource, FileSet } from './source.ts'
import { fromBytes, viewOf } from './sources.ts'

export interface ZipLimits {
  readonly entries: number
  /** Bytes of all files together, unpacked. */
  readonly bytes: number
}
const LIMITS: ZipLimits = { entries: 10_000, bytes: 2 ** 30 }
/** Deflate cannot shrink by more than this. */
const MAX_RATIO = 1032
const [LOCAL, CENTRAL, END, END64, LOCATOR64] = [0x04034b50, 0x02014b50, 0x06054b50, 0x06064b50, 0x07064b50]
const FULL = 0xffffffff

interface Entry {
  readonly name: string
  readonly method: number
  readonly crc: number
  readonly packed: number
  readonly size: number
  readonly offset: number
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1
  return c
})

/** CRC-32 of bytes (ISO 3309), unsigned. */
export function crc32(bytes: Uint8Array): number {
  let c = -1
  for (let i = 0; i < bytes.length; i++) c = CRC_TABLE[(c ^ bytes[i]) & 255] ^ (c >>> 8)
  return ~c >>> 0
}

const damaged = (where: string, what: string): FileError =>
  new FileError(what, {
    where,
    why: 'The zip file is truncated, damaged or made to do harm',
    fix: 'Download it again, or unpack it yourself and choose the folder',
  })

/** Why a name may not be used, or null. Names with a way out of their folder never become files. */
function badName(name: string): string | null {
  if (name.includes('\0') || name.length > 1000) return 'is no file name'
  if (/^([/\\]|[a-zA-Z]:)/.test(name)) return 'begins at the root of a disk'
  return name.split(/[/\\]/).includes('..') ? 'leads out of its folder' : null
}

const big = (v: DataView, at: number): number => Number(v.getBigUint64(at, true))

/** Where the list of entries lies. */
async function findDirectory(source: ByteSource): Promise<{ count: number; size: number; offset: number }> {
  const { size, name } = source
  const tailLength = Math.min(size, 22 + 0xffff + 20)
  const tail = await source.read(size - tailLength, tailLength)
  const v = viewOf(tail)
  let at = tailLength - 22
  while (at >= 0 && v.getUint32(at, true) !== END) at--
  if (at < 0) throw damaged(name, 'This is no zip file, or its end is missing')
  const found = { count: v.getUint16(at + 10, true), size: v.getUint32(at + 12, true), offset: v.getUint32(at + 16, true) }
  if (found.offset !== FULL && found.count !== 0xffff && found.size !== FULL) return found
  if (at < 20 || v.getUint32(at - 20, true) !== LOCATOR64) throw damaged(name, 'Its zip64 part is missing')
  const end = await source.read(big(v, at - 12), 56)
  const w = viewOf(end)
  if (w.getUint32(0, true) !== END64) throw damaged(name, 'Its zip64 part is damaged')
  return { count: big(w, 32), size: big(w, 40), offset: big(w, 48) }
}

/** Sizes and offset of an entry, from its zip64 field where the 32-bit ones are full. */
function zip64(v: DataView, at: number, length: number, values: [size: number, packed: number, offset: number]): void {
  for (let p = at; p + 4 <= at + length; p += 4 + v.getUint16(p + 2, true)) {
    if (v.getUint16(p, true) !== 1) continue
    const end = Math.min(p + 4 + v.getUint16(p + 2, true), at + length)
    let q = p + 4
    for (let i = 0; i < 3; i++) {
      if (values[i] !== FULL || q + 8 > end) continue
      values[i] = big(v, q)
      q += 8
    }
  }
}

async function readDirectory(source: ByteSource, limits: ZipLimits): Promise<Entry[]> {
  const { count, size, offset } = await findDirectory(source)
  if (count > limits.entries || count * 46 > size)
    throw damaged(source.name, `It claims ${count} files; at most ${limits.entries} are unpacked`)
  const bytes = await source.read(offset, size)
  const v = viewOf(bytes)
  const entries: Entry[] = []
  for (let i = 0, at = 0; i < count; i++) {
    if (at + 46 > size || v.getUint32(at, true) !== CENTRAL) throw damaged(source.name, `Entry ${i + 1} of its list is damaged`)
    const [nameLength, extraLength, commentLength] = [v.getUint16(at + 28, true), v.getUint16(at + 30, true), v.getUint16(at + 32, true)]
    const next = at + 46 + nameLength + extraLength + commentLength
    if (next > size) throw damaged(source.name, `Entry ${i + 1} of its list is cut off`)
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength))
    const values: [number, number, number] = [v.getUint32(at + 24, true), v.getUint32(at + 20, true), v.getUint32(at + 42, true)]
    zip64(v, at + 46 + nameLength, extraLength, values)
    if (v.getUint16(at + 8, true) & 1)
      throw new FileError(`${name} is encrypted`, { where: source.name, fix: 'Unpack it yourself and choose the folder' })
    entries.push({
      name,
      method: v.getUint16(at + 10, true),
      crc: v.getUint32(at + 16, true),
      size: values[0],
      packed: values[1],
      offset: values[2],
    })
    at = next
  }
  return entries
}

async function unpack(source: ByteSource, entry: Entry): Promise<Uint8Array> {
  const where = `${source.name}, ${entry.name}`
  const head = viewOf(await source.read(entry.offset, 30))
  if (head.getUint32(0, true) !== LOCAL) throw damaged(where, 'It is not where the list of files says')
  const start = entry.offset + 30 + head.getUint16(26, true) + head.getUint16(28, true)
  const packed = await source.read(start, entry.packed)
  let bytes: Uint8Array = packed
  if (entry.method === 8) {
    try {
      bytes = inflateSync(packed, { out: new Uint8Array(entry.size) })
    } catch (e) {
      throw damaged(where, `It cannot be unpacked (${e instanceof Error ? e.message : String(e)})`)
    }
  } else if (entry.method !== 0)
    throw new FileError(`It is packed by method ${entry.method}; stored and deflated files are read`, {
      where,
      fix: 'Unpack it yourself and choose the folder',
    })
  if (bytes.length !== entry.size || crc32(bytes) !== entry.crc) throw damaged(where, 'Its bytes do not match its checksum')
  return bytes
}

/**
 * Unpacks a zip file into memory.
 * @returns path in the zip → bytes; folders and system leftovers (__MACOSX, .DS_Store) left out.
 * @throws FileError for damage, encryption, names that lead out of the folder, and more files or bytes than the limits.
 */
export async function unzipFiles(source: ByteSource, limits: ZipLimits = LIMITS): Promise<FileSet> {
  const entries = (await readDirectory(source, limits)).filter((e) => !/(^|\/)(__MACOSX\/|\.DS_Store$)|\/$/.test(e.name))
  const files = new Map<string, ByteSource>()
  let total = 0
  for (const e of entries) {
    const bad = badName(e.name)
    if (bad) throw damaged(source.name, `The name ${JSON.stringify(e.name.slice(0, 100))} ${bad}`)
    const path = e.name.replaceAll('\\', '/')
    if (files.has(path)) throw damaged(source.name, `${path} is there twice`)
    total += e.size
    if (!(total <= limits.bytes)) throw damaged(source.name, `It unpacks to more than ${limits.bytes} bytes`)
    if (e.size > 64 + e.packed * MAX_RATIO)
      throw damaged(source.name, `${path} claims to unpack to ${e.size} bytes, which ${e.packed} cannot`)
    files.set(path, fromBytes(path, await unpack(source, e)))
  }
  return files
}

/** The same files, with those of the zip files among them in place of these (under the zip's name as folder). */
export async function expandZips(files: FileSet, limits?: ZipLimits): Promise<FileSet> {
  const zips = withExtension(files, '.zip')
  if (!zips.length) return files
  const out = new Map([...files].filter(([path]) => !zips.includes(path)))
  for (const zip of zips)
    for (const [path, source] of await unzipFiles(files.get(zip) as ByteSource, limits)) out.set(`${zip.slice(0, -4)}/${path}`, source)
  return out
}

export interface ZipInput {
  readonly name: string
  readonly data: Blob | Uint8Array<ArrayBuffer> | string
}

/** A zip file of files, not compressed (weights do not shrink). @param lastModified written for every file. */
export async function zipFiles(files: Iterable<ZipInput>, lastModified = new Date()): Promise<Blob> {
  const inputs = [...files].map(({ name, data }) => ({ name, input: data, lastModified }))
  return new Blob([await downloadZip(inputs).blob()], { type: 'application/zip' })
}
