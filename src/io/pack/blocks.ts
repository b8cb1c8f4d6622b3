/**
 * @file GGML's blocks of 32 and super-blocks of 256 in the layouts of shaders/lib/weights: bits are put in the order of the weights, none is changed.
 * Stored formats: ggml/src/ggml-common.h and ggml-quants.c (`dequantize_row_*`).
 */
import { FileError } from '../../errors.ts'
import { viewOf } from '../sources.ts'

/** What a GPU buffer of data and one of scales hold. */
export interface Packed {
  readonly data: Uint32Array<ArrayBuffer>
  readonly scales: Uint32Array<ArrayBuffer>
}
/** @param bytes whole blocks, row after row. What is left of a last word or record is 0. */
export type Pack = (bytes: Uint8Array) => Packed

/** Low nibbles of 4 bytes, side by side in 16 bits. */
function squeeze4(x: number): number {
  const pairs = ((x & 0x0f0f0f0f) | ((x & 0x0f0f0f0f) >>> 4)) & 0x00ff00ff
  return (pairs | (pairs >>> 8)) & 0xffff
}
/** Lowest 2 bits of 4 bytes, side by side in 8 bits. */
function squeeze2(x: number): number {
  const pairs = ((x & 0x03030303) | ((x & 0x03030303) >>> 6)) & 0x000f000f
  return (pairs | (pairs >>> 12)) & 0xff
}
/** Bits `shift` … `shift` + 3 of 8 bytes, as one word. */
const eight4 = (v: DataView, at: number, shift: number): number =>
  squeeze4(v.getUint32(at, true) >>> shift) | (squeeze4(v.getUint32(at + 4, true) >>> shift) << 16)
/** Bits `shift` and `shift` + 1 of 8 bytes, as 16 bits. */
const eight2 = (v: DataView, at: number, shift: number): number =>
  squeeze2(v.getUint32(at, true) >>> shift) | (squeeze2(v.getUint32(at + 4, true) >>> shift) << 8)

/** The bits of an f16 scale. @throws FileError where it is infinite or NaN. */
function half(v: DataView, at: number, block: number): number {
  const bits = v.getUint16(at, true)
  if ((bits & 0x7c00) === 0x7c00)
    throw new FileError(`The scale of block ${block} is not a finite number`, {
      why: 'One such weight makes every output NaN; the tensor is damaged',
      fix: 'Download the file again',
    })
  return bits
}

/** Blocks of 32 with 4 or 5 bits: f16 d, with `min` f16 m, with `fifth` u32 of fifth bits, 16 bytes of nibbles: those of weight j and of weight 16 + j. */
export const packNibbles =
  (min: boolean, fifth: boolean): Pack =>
  (bytes) => {
    const v = viewOf(bytes)
    const [head, words] = [2 + (min ? 2 : 0), fifth ? 5 : 4]
    const size = head + (fifth ? 20 : 16)
    const blocks = bytes.length / size
    const data = new Uint32Array(blocks * words)
    const scales = new Uint32Array(min ? blocks : Math.ceil(blocks / 2))
    for (let b = 0, at = 0, to = 0; b < blocks; b++, at += size, to += words) {
      const d = half(v, at, b)
      if (min) scales[b] = d | (half(v, at + 2, b) << 16)
      else scales[b >> 1] |= d << (16 * (b & 1))
      const nibbles = at + head + (fifth ? 4 : 0)
      if (fifth) data[to + 4] = v.getUint32(at + head, true)
      data[to] = eight4(v, nibbles, 0)
      data[to + 1] = eight4(v, nibbles + 8, 0)
      data[to + 2] = eight4(v, nibbles, 4)
      data[to + 3] = eight4(v, nibbles + 8, 4)
    }
    return { data, scales }
  }

/** Q8_0: f16 d, 32 signed bytes. */
export const packQ8: Pack = (bytes) => {
  const v = viewOf(bytes)
  const blocks = bytes.length / 34
  const data = new Uint8Array(blocks * 32)
  const scales = new Uint32Array(Math.ceil(blocks / 2))
  for (let b = 0, at = 0; b < blocks; b++, at += 34) {
    scales[b >> 1] |= half(v, at, b) << (16 * (b & 1))
    data.set(bytes.subarray(at + 2, at + 34), 32 * b)
  }
  return { data: new Uint32Array(data.buffer), scales }
}

/** 6-bit scale or minimum (`from` 4) of block j among the 12 bytes at `at`. */
function sixBits(v: DataView, at: number, j: number, from: 0 | 4): number {
  if (j < 4) return v.getUint8(at + j + from) & 63
  const low = (v.getUint8(at + j + 4) >>> from) & 15
  return low | ((v.getUint8(at + j - 4 + from) >>> 6) << 4)
}

/** Q4_K and, with `fifth`, Q5_K: f16 d, f16 dmin, 12 bytes of scales and minima, (32 bytes of fifth bits,) 128 of nibbles. */
export const packQ45K =
  (fifth: boolean): Pack =>
  (bytes) => {
    const v = viewOf(bytes)
    const [size, words] = fifth ? [176, 5] : [144, 4]
    const count = bytes.length / size
    const data = new Uint32Array(count * 8 * words)
    const scales = new Uint32Array(count * 4)
    for (let s = 0, at = 0; s < count; s++, at += size) {
      scales[4 * s] = half(v, at, s) | (half(v, at + 2, s) << 16)
      for (let j = 0; j < 8; j++) {
        const pair = sixBits(v, at + 4, j, 0) | (sixBits(v, at + 4, j, 4) << 6)
        const [word, bit] = [4 * s + 1 + ((12 * j) >> 5), (12 * j) & 31]
        scales[word] |= pair << bit
        if (bit > 20) scales[word + 1] |= pair >>> (32 - bit)
        const nibbles = at + (fifth ? 48 : 16) + 32 * (j >> 1)
        const to = (8 * s + j) * words
        for (let g = 0; g < 4; g++) data[to + g] = eight4(v, nibbles + 8 * g, 4 * (j & 1))
        if (fifth) for (let l = 0; l < 32; l++) data[to + 4] |= ((bytes[at + 16 + l] >>> j) & 1) << l
      }
    }
    return { data, scales }
  }

/** Q6_K: 128 bytes of low nibbles, 64 of upper bits, 16 signed scales, f16 d. */
export const packQ6K: Pack = (bytes) => {
  const v = viewOf(bytes)
  const count = bytes.length / 210
  const data = new Uint32Array(count * 48)
  const scales = new Uint32Array(Math.ceil(count / 2) * 9)
  const table = new Uint8Array(scales.buffer)
  for (let s = 0, at = 0; s < count; s++, at += 210) {
    const record = (s >> 1) * 9
    scales[record] |= half(v, at + 208, s) << (16 * (s & 1))
    table.set(bytes.subarray(at + 192, at + 208), 4 * record + 4 + 16 * (s & 1))
    for (let b = 0; b < 8; b++) {
      // Each half of 128 weights is four blocks: low nibbles of two groups of 32 bytes, then their high ones; upper bits 0-1, 2-3, 4-5, 6-7 of 32 bytes.
      const [part, quarter] = [b >> 2, b & 3]
      const low = at + 64 * part + 32 * (quarter & 1)
      const high = at + 128 + 32 * part
      const to = 48 * s + 6 * b
      for (let g = 0; g < 4; g++) {
        data[to + g] = eight4(v, low + 8 * g, quarter >= 2 ? 4 : 0)
        data[to + 4 + (g >> 1)] |= eight2(v, high + 8 * g, 2 * quarter) << (16 * (g & 1))
      }
    }
  }
  return { data, scales }
}
