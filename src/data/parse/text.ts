/** @file Bytes of a file to text, in pieces: which encoding, lines with their numbers, and what is wrong with a line. Memory stays bounded. */
import { DataError } from '../../errors.ts'
import type { ByteSource } from '../../io/source.ts'

/** A longer line or row is set aside, not read: memory must stay bounded whatever the file. */
export const MAX_ROW_BYTES = 16 * 2 ** 20
const CHUNK = 2 ** 20
const EXCERPT = 120

export type Encoding = 'utf-8' | 'utf-16le' | 'utf-16be'

export interface ReadOptions {
  readonly signal?: AbortSignal
  /** Told how many bytes of the file have been read so far. */
  readonly onBytes?: (done: number) => void
  /** Bytes read at once, even; 1 MiB where absent. */
  readonly chunk?: number
}

export interface Line {
  /** 1-based. */
  readonly line: number
  /** Without its line end. Where `problem` is set: as much as can be shown. */
  readonly text: string
  /** Why the line cannot be used, or null. */
  readonly problem: string | null
  /** `text` is only the beginning. */
  readonly partial?: boolean
}

/** The first characters of a row, for messages; control characters as U+FFFD. */
export const excerptOf = (text: string): string => {
  const head = text
    .slice(0, EXCERPT)
    .toWellFormed()
    .replaceAll(/\p{Cc}/gu, '\uFFFD')
  return text.length > EXCERPT ? `${head}…` : head
}

/** Encoding by the byte-order mark, and the mark's length. Throws DataError for UTF-16 without one and UTF-32. */
export function encodingOf(head: Uint8Array, name: string): { readonly encoding: Encoding; readonly bom: number } {
  const starts = (...b: number[]): boolean => b.every((x, i) => head[i] === x)
  if (starts(0xff, 0xfe, 0, 0) || starts(0, 0, 0xfe, 0xff))
    throw new DataError('the file is UTF-32 text', { where: name, fix: 'Save it as UTF-8' })
  if (starts(0xff, 0xfe)) return { encoding: 'utf-16le', bom: 2 }
  if (starts(0xfe, 0xff)) return { encoding: 'utf-16be', bom: 2 }
  if (starts(0xef, 0xbb, 0xbf)) return { encoding: 'utf-8', bom: 3 }
  const nul = [0, 0]
  const n = Math.min(head.length, 1024)
  for (let i = 0; i < n; i++) if (head[i] === 0) nul[i % 2] = (nul[i % 2] ?? 0) + 1
  if (n >= 8 && Math.max(...nul) > n / 4 && Math.min(...nul) < n / 32)
    throw new DataError('the file looks like UTF-16 text without a byte order mark', { where: name, fix: 'Save it as UTF-8' })
  return { encoding: 'utf-8', bom: 0 }
}

/** The file's bytes in order, in chunks of 1 MiB (even offsets after the mark). */
async function* chunks(
  source: ByteSource,
  from: number,
  { signal, onBytes, chunk: size = CHUNK }: ReadOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let at = from; at < source.size; at += size) {
    signal?.throwIfAborted()
    const chunk = await source.read(at, Math.min(size, source.size - at))
    onBytes?.(Math.min(at + size, source.size))
    yield chunk
  }
}

const HEAD = 4096
const open = async (source: ByteSource): Promise<ReturnType<typeof encodingOf>> =>
  encodingOf(await source.read(0, Math.min(source.size, HEAD)), source.name)

/** Text in pieces. `suspect`: bytes in it were no valid text and stand as U+FFFD. */
export async function* readText(
  source: ByteSource,
  options: ReadOptions = {},
): AsyncGenerator<{ readonly text: string; readonly suspect: boolean }> {
  const { encoding, bom } = await open(source)
  let decoder = new TextDecoder(encoding, { ignoreBOM: true, fatal: true })
  let strict = true
  for await (const chunk of chunks(source, bom, options)) {
    let text: string
    try {
      text = decoder.decode(chunk, { stream: true })
    } catch {
      // A strict decoder that has failed keeps no state worth having: from here on replace, and let the reader look for U+FFFD.
      strict = false
      decoder = new TextDecoder(encoding, { ignoreBOM: true })
      text = decoder.decode(chunk, { stream: true })
    }
    yield { text, suspect: !strict }
  }
  try {
    const rest = decoder.decode()
    if (rest) yield { text: rest, suspect: !strict }
  } catch {
    yield { text: '\uFFFD', suspect: true }
  }
}

/** Byte offsets of line ends for one encoding. `\n` ends a line; in a file that has none, `\r` does. */
class Newline {
  readonly unit: number
  readonly #low: number
  constructor(
    readonly encoding: Encoding,
    readonly code: number,
  ) {
    this.unit = encoding === 'utf-8' ? 1 : 2
    this.#low = encoding === 'utf-16be' ? 1 : 0
  }
  first(b: Uint8Array, from: number): number {
    for (let i = b.indexOf(this.code, from); i >= 0; i = b.indexOf(this.code, i + 1)) if (this.#is(b, i)) return i - this.#low
    return -1
  }
  last(b: Uint8Array): number {
    for (let i = b.lastIndexOf(this.code); i >= 0; i = i > 0 ? b.lastIndexOf(this.code, i - 1) : -1)
      if (this.#is(b, i)) return i - this.#low
    return -1
  }
  #is(b: Uint8Array, i: number): boolean {
    return this.unit === 1 || (i % 2 === this.#low && b[this.#low === 0 ? i + 1 : i - 1] === 0)
  }
}

const join = (a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => {
  if (!a.length) return b
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}
const trimCr = (s: string): string => (s.endsWith('\r') ? s.slice(0, -1) : s)

/** Lines in batches. A line that is too long, not valid text or holds a NUL comes with its `problem`; reading goes on after it. */
export async function* readLines(source: ByteSource, options: ReadOptions = {}): AsyncGenerator<Line[]> {
  const { encoding, bom } = await open(source)
  const head = await source.read(0, Math.min(source.size, CHUNK))
  const [lf, cr] = [new Newline(encoding, 0x0a), new Newline(encoding, 0x0d)]
  const newline = lf.first(head, 0) < 0 && cr.first(head, 0) >= 0 ? cr : lf
  const strict = new TextDecoder(encoding, { ignoreBOM: true, fatal: true })
  const lenient = new TextDecoder(encoding, { ignoreBOM: true })
  const name = encoding === 'utf-8' ? 'UTF-8' : 'UTF-16'
  let line = 1
  let carry = new Uint8Array(0)
  /** Bytes of an over-long line skipped so far; null outside one. */
  let skipping: { bytes: number; head: string } | null = null

  const tooLong = ({ bytes, head: text }: { bytes: number; head: string }): Line => ({
    line: line++,
    text,
    problem: `the line is ${Math.round(bytes / 2 ** 20)} MiB long; at most ${MAX_ROW_BYTES / 2 ** 20} MiB are read`,
    partial: true,
  })
  const one = (bytes: Uint8Array<ArrayBuffer>): Line => {
    const text = trimCr(lenient.decode(bytes))
    if (text.includes('\0'))
      return { line: line++, text, problem: 'the line holds a NUL character: it is not text, or the file is damaged' }
    try {
      strict.decode(bytes)
      return { line: line++, text, problem: null }
    } catch {
      return { line: line++, text, problem: `the line is not valid ${name}` }
    }
  }
  const region = (bytes: Uint8Array<ArrayBuffer>): Line[] => {
    try {
      const text = strict.decode(bytes)
      if (!text.includes('\0'))
        return text.split(newline.code === 0x0a ? '\n' : '\r').map((t) => ({ line: line++, text: trimCr(t), problem: null }))
    } catch {
      // one by one, to find the lines at fault
    }
    const lines: Line[] = []
    for (let from = 0; ;) {
      const end = newline.first(bytes, from)
      lines.push(one(bytes.subarray(from, end < 0 ? undefined : end)))
      if (end < 0) return lines
      from = end + newline.unit
    }
  }

  for await (let chunk of chunks(source, bom, options)) {
    const out: Line[] = []
    if (skipping) {
      const end = newline.first(chunk, 0)
      if (end < 0) {
        skipping.bytes += chunk.length
        continue
      }
      skipping.bytes += end
      out.push(tooLong(skipping))
      skipping = null
      chunk = chunk.subarray(end + newline.unit)
    }
    const bytes = join(carry, chunk)
    const last = newline.last(bytes)
    if (last >= 0) {
      const first = carry.length > MAX_ROW_BYTES - CHUNK ? newline.first(bytes, 0) : 0
      if (first > MAX_ROW_BYTES)
        out.push(
          tooLong({ bytes: first, head: lenient.decode(bytes.subarray(0, 4 * EXCERPT)) }),
          ...(first < last ? region(bytes.subarray(first + newline.unit, last)) : []),
        )
      else out.push(...region(bytes.subarray(0, last)))
      carry = bytes.slice(last + newline.unit)
    } else if (bytes.length > MAX_ROW_BYTES) {
      skipping = { bytes: bytes.length, head: lenient.decode(bytes.subarray(0, 4 * EXCERPT)) }
      carry = new Uint8Array(0)
    } else carry = bytes
    if (out.length) yield out
  }
  if (skipping) yield [tooLong(skipping)]
  else if (carry.length) yield [one(carry)]
}
