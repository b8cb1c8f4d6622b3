/**
 * @file Stored weights to float32 and back. Block formats as ggml/src/ggml-quants.c (`dequantize_row_*`), with its order of float32 roundings, so results are
 * equal bit for bit.
 */
import { FileError } from '../errors.ts'
import { bf16FromBits, f16FromBits, f16Table } from './float16.ts'
import { dequantizeK } from './k_quants.ts'
import type { StorageType } from './source.ts'
import { storedBytes } from './storage.ts'

const fround = Math.fround

/** Bytes at an offset that typed arrays accept. */
const aligned = (bytes: Uint8Array, size: number): Uint8Array => (bytes.byteOffset % size === 0 ? bytes : bytes.slice())
const u16 = (bytes: Uint8Array, n: number): Uint16Array => {
  const b = aligned(bytes, 2)
  return new Uint16Array(b.buffer, b.byteOffset, n)
}

function f64(bytes: Uint8Array, n: number): Float32Array<ArrayBuffer> {
  const b = aligned(bytes, 8)
  return Float32Array.from(new Float64Array(b.buffer, b.byteOffset, n))
}

function f32(bytes: Uint8Array, n: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(n)
  new Uint8Array(out.buffer).set(bytes.subarray(0, n * 4))
  return out
}

function f16(bytes: Uint8Array, n: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(n)
  const x = u16(bytes, n)
  const table = f16Table()
  for (let i = 0; i < n; i++) out[i] = table[x[i]]!
  return out
}

function bf16(bytes: Uint8Array, n: number): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(n)
  const x = u16(bytes, n)
  for (let i = 0; i < n; i++) bits[i] = x[i] << 16
  return new Float32Array(bits.buffer)
}

/** Q4_0, Q4_1, Q5_0, Q5_1: 32 weights; f16 d, with `min` f16 m, with `high` u32 of fifth bits, 16 bytes of nibbles (low ones first). w = d·q + m or d·(q - 2^(bits-1)). */
function nibbles(b: Uint8Array, n: number, min: boolean, high: boolean): Float32Array<ArrayBuffer> {
  const out = new Float32Array(n)
  const table = f16Table()
  const bias = min ? 0 : high ? 16 : 8
  for (let o = 0, at = 0; o < n; o += 32) {
    const d = table[b[at] | (b[at + 1] << 8)]
    at += 2
    const m = min ? table[b[at] | (b[at + 1] << 8)] : -0 // x + -0 is x, whatever the sign of a zero
    if (min) at += 2
    const h = high ? b[at] | (b[at + 1] << 8) | (b[at + 2] << 16) | (b[at + 3] << 24) : 0
    if (high) at += 4
    for (let j = 0; j < 16; j++) {
      const q = b[at + j]
      out[o + j] = fround(d * (((q & 15) | (((h >>> j) & 1) << 4)) - bias)) + m
      out[o + j + 16] = fround(d * (((q >>> 4) | (((h >>> (j + 16)) & 1) << 4)) - bias)) + m
    }
    at += 16
  }
  return out
}

/** Q8_0: 32 weights; f16 d, 32 int8. w = d·q. */
function q8(b: Uint8Array, n: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(n)
  const table = f16Table()
  for (let o = 0, at = 0; o < n; o += 32, at += 34) {
    const d = table[b[at] | (b[at + 1] << 8)]
    for (let j = 0; j < 32; j++) out[o + j] = d * ((b[at + 2 + j] << 24) >> 24)
  }
  return out
}

/**
 * Decodes `count` weights.
 * @param bytes exactly the stored bytes of `count` weights.
 * @returns float32, `count` long.
 * @throws FileError where the bytes do not fit the count, or for integer types, which are no weights.
 */
export function toFloat32(type: StorageType, bytes: Uint8Array, count: number): Float32Array<ArrayBuffer> {
  if (storedBytes(type, count) !== bytes.byteLength) {
    throw new FileError(`${count} weights of ${type} do not take ${bytes.byteLength} bytes`, { why: 'The tensor is damaged' })
  }
  switch (type) {
    case 'F64':
      return f64(bytes, count)
    case 'F32':
      return f32(bytes, count)
    case 'F16':
      return f16(bytes, count)
    case 'BF16':
      return bf16(bytes, count)
    case 'Q4_0':
      return nibbles(bytes, count, false, false)
    case 'Q4_1':
      return nibbles(bytes, count, true, false)
    case 'Q5_0':
      return nibbles(bytes, count, false, true)
    case 'Q5_1':
      return nibbles(bytes, count, true, true)
    case 'Q8_0':
      return q8(bytes, count)
    case 'Q2_K':
    case 'Q3_K':
    case 'Q4_K':
    case 'Q5_K':
    case 'Q6_K':
      return dequantizeK(type, bytes, count)
    default:
      throw new FileError(`${type} holds integers, not weights`, { why: 'The model would have no meaning' })
  }
}

/** Encodes float32 weights; F16 and BF16 round to nearest, ties to even. Result: 4 or 2 bytes a weight, little-endian. */
export function fromFloat32(type: 'F32' | 'F16' | 'BF16', values: Float32Array): Uint8Array<ArrayBuffer> {
  const n = values.length
  if (type === 'F32') return new Uint8Array(values.buffer.slice(values.byteOffset, values.byteOffset + 4 * n) as ArrayBuffer)
  const bits = new Uint32Array(values.buffer, values.byteOffset, n)
  const out = new Uint16Array(n)
  if (type === 'F16') for (let i = 0; i < n; i++) out[i] = f16FromBits(bits[i])
  else for (let i = 0; i < n; i++) out[i] = bf16FromBits(bits[i])
  return new Uint8Array(out.buffer)
}
