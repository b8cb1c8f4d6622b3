/** @file Decodes GGUF's primitive values from the front part of a file. Throws `ShortRead` where more bytes are needed and the file has them, FileError where it lies. */
import { FileError } from '../errors.ts'
import { viewOf } from './sources.ts'

/** Arrays of numbers are typed arrays where 32 bits hold them; 64-bit ones are number[]. */
export type GgufArray =
  | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array
  | readonly number[] | readonly boolean[] | readonly string[] | readonly GgufArray[] // prettier-ignore
export type GgufValue = number | boolean | string | GgufArray

/** The bytes at hand end before `needed`, but the file goes on. */
export class ShortRead extends Error {
  constructor(readonly needed: number) {
    super(`${needed} bytes needed`)
  }
}

/** Bytes of each value type in the file (least bytes, for strings and arrays), by type id. */
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8] as const
const STRING = 8
const ARRAY = 9
const MAX_DEPTH = 4
const ASCII_LIMIT = 24
// A U+FEFF at the start of a text is part of it: Gemma has tokens "\ufeff#" and "#".
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const lenient = new TextDecoder('utf-8', { ignoreBOM: true })

export class GgufCursor {
  offset = 0
  /** What is being read, for messages. */
  at = 'header'
  private readonly view: DataView

  constructor(
    private readonly bytes: Uint8Array<ArrayBuffer>,
    private readonly fileName: string,
    private readonly fileSize: number,
  ) {
    this.view = viewOf(bytes)
  }

  fail(what: string, why = 'The file is truncated or damaged', fix = 'Download it again'): never {
    throw new FileError(what, { where: `${this.fileName}, ${this.at}`, why, fix })
  }

  /** Moves past `n` bytes and returns where they begin. */
  private take(n: number): number {
    const start = this.offset
    const end = start + n
    if (end > this.fileSize) this.fail(`It needs ${end} bytes, but the file has ${this.fileSize}`)
    if (end > this.bytes.length) throw new ShortRead(end)
    this.offset = end
    return start
  }

  u32(): number {
    return this.view.getUint32(this.take(4), true)
  }

  private safe(value: bigint): number {
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)) this.fail(`The number ${value} is beyond ±2^53`)
    return Number(value)
  }

  /** Unsigned 64-bit number up to 2^53 - 1. */
  u64(): number {
    return this.safe(this.view.getBigUint64(this.take(8), true))
  }

  /** A number of things of which each takes at least `least` bytes of the file. */
  count(of: string, most: number, least: number): number {
    const n = this.view.getBigUint64(this.take(8), true)
    if (n > BigInt(most) || n * BigInt(least) > BigInt(this.fileSize - this.offset)) {
      this.fail(`It claims ${n} ${of}, which a file of ${this.fileSize} bytes cannot hold`)
    }
    return Number(n)
  }

  private text(decoder: TextDecoder): string {
    const length = this.count('bytes of text', this.fileSize, 1)
    const start = this.take(length)
    if (length <= ASCII_LIMIT) {
      let out = ''
      let i = start
      for (; i < this.offset; i++) {
        const c = this.bytes[i] ?? 0
        if (c > 127) break
        out += String.fromCharCode(c)
      }
      if (i === this.offset) return out
    }
    return decoder.decode(this.bytes.subarray(start, this.offset))
  }

  /** A key or tensor name: valid UTF-8, not empty. */
  name(what: string): string {
    let text = ''
    try {
      text = this.text(strict)
    } catch (e) {
      if (e instanceof FileError || e instanceof ShortRead) throw e
      this.fail(`Its ${what} is not UTF-8`)
    }
    return text === '' ? this.fail(`Its ${what} is empty`) : text
  }

  /** A value of a type id. */
  value(type: number, depth = 0): GgufValue {
    const v = this.view
    switch (type) {
      case 0:
        return v.getUint8(this.take(1))
      case 1:
        return v.getInt8(this.take(1))
      case 2:
        return v.getUint16(this.take(2), true)
      case 3:
        return v.getInt16(this.take(2), true)
      case 4:
        return this.u32()
      case 5:
        return v.getInt32(this.take(4), true)
      case 6:
        return v.getFloat32(this.take(4), true)
      case 7: {
        const b = v.getUint8(this.take(1))
        return b > 1 ? this.fail(`A truth value is ${b}, not 0 or 1`) : b === 1
      }
      case STRING:
        return this.text(lenient)
      case ARRAY:
        return this.array(depth + 1)
      case 10:
        return this.u64()
      case 11:
        return this.safe(v.getBigInt64(this.take(8), true))
      case 12:
        return v.getFloat64(this.take(8), true)
      default:
        return this.fail(`Unknown value type ${type}`)
    }
  }

  private array(depth: number): GgufArray {
    if (depth > MAX_DEPTH) this.fail(`Arrays are nested deeper than ${MAX_DEPTH}`)
    const type = this.u32()
    const size = SIZES[type] ?? this.fail(`Unknown value type ${type} in an array`)
    const n = this.count('array elements', 2 ** 32, size)
    if (type <= 6 || type === 12) {
      const start = this.take(n * size)
      const buffer = this.bytes.slice(start, start + n * size).buffer
      if (type === 0) return new Uint8Array(buffer)
      if (type === 1) return new Int8Array(buffer)
      if (type === 2) return new Uint16Array(buffer)
      if (type === 3) return new Int16Array(buffer)
      if (type === 4) return new Uint32Array(buffer)
      if (type === 5) return new Int32Array(buffer)
      return type === 6 ? new Float32Array(buffer) : new Float64Array(buffer)
    }
    if (this.offset + n * size > this.bytes.length) throw new ShortRead(this.offset + n * size)
    const out: GgufValue[] = []
    for (let i = 0; i < n; i++) out.push(this.value(type, depth))
    return out as GgufArray
  }
}
