/** @file GGML's K-quants to float32: super-blocks of 256 weights. Formats and rounding order of ggml/src/ggml-quants.c (`dequantize_row_q2_K` … `q6_K`). */
import { f16Table } from './float16.ts'
import { BLOCKS } from './storage.ts'

export type KQuant = 'Q2_K' | 'Q3_K' | 'Q4_K' | 'Q5_K' | 'Q6_K'

const fround = Math.fround
const half = (b: Uint8Array, at: number): number => f16Table()[b[at] | (b[at + 1] << 8)]

/** scales[16] (low nibble scale, high nibble min), qs[64] (2 bits), d, dmin. */
function q2(b: Uint8Array, at: number, out: Float32Array, o: number): void {
  const d = half(b, at + 80)
  const min = half(b, at + 82)
  for (let s = 0; s < 16; s++) {
    const scale = b[at + s]
    const dl = fround(d * (scale & 15))
    const ml = fround(min * (scale >>> 4))
    const q = at + 16 + 32 * (s >>> 3) + 16 * (s & 1)
    const shift = s & 6
    for (let l = 0; l < 16; l++) out[o + 16 * s + l] = fround(dl * ((b[q + l] >>> shift) & 3)) - ml
  }
}

/** hmask[32], qs[64] (2 bits), scales[12] (16 × 6 bits), d. */
function q3(b: Uint8Array, at: number, out: Float32Array, o: number): void {
  const d = half(b, at + 108)
  const sc = at + 96
  for (let s = 0; s < 16; s++) {
    const low = s < 8 ? b[sc + s] & 15 : b[sc + s - 8] >>> 4
    const high = (b[sc + 8 + (s & 3)] >>> (2 * (s >>> 2))) & 3
    const dl = fround(d * ((low | (high << 4)) - 32))
    const q = at + 32 + 32 * (s >>> 3) + 16 * (s & 1)
    const mask = at + 16 * (s & 1)
    const shift = s & 6
    const bit = s >>> 1
    for (let l = 0; l < 16; l++) out[o + 16 * s + l] = dl * (((b[q + l] >>> shift) & 3) - ((b[mask + l] >>> bit) & 1 ? 0 : 4))
  }
}

/** 6-bit scale (`min` false) or minimum of sub-block j, from 12 packed bytes. */
function scale6(b: Uint8Array, at: number, j: number, min: boolean): number {
  if (j < 4) return b[at + j + (min ? 4 : 0)] & 63
  const low = min ? b[at + j + 4] >>> 4 : b[at + j + 4] & 15
  return low | ((b[at + j - (min ? 0 : 4)] >>> 6) << 4)
}

/** d, dmin, scales[12], (Q5: qh[32]), qs[128]. */
function q45(b: Uint8Array, at: number, out: Float32Array, o: number, five: boolean): void {
  const d = half(b, at)
  const min = half(b, at + 2)
  const high = at + 16
  const qs = at + (five ? 48 : 16)
  for (let j = 0; j < 8; j++) {
    const dl = fround(d * scale6(b, at + 4, j, false))
    const ml = fround(min * scale6(b, at + 4, j, true))
    const q = qs + 32 * (j >>> 1)
    const shift = 4 * (j & 1)
    for (let l = 0; l < 32; l++) {
      const fifth = five ? ((b[high + l] >>> j) & 1) << 4 : 0
      out[o + 32 * j + l] = fround(dl * (((b[q + l] >>> shift) & 15) | fifth)) - ml
    }
  }
}

/** ql[128], qh[64], scales[16] int8, d. */
function q6(b: Uint8Array, at: number, out: Float32Array, o: number): void {
  const d = half(b, at + 208)
  for (let s = 0; s < 16; s++) {
    const dl = fround(d * ((b[at + 192 + s] << 24) >> 24))
    const quarter = (s >>> 1) & 3
    const low = at + 64 * (s >>> 3) + 32 * (quarter & 1) + 16 * (s & 1)
    const high = at + 128 + 32 * (s >>> 3) + 16 * (s & 1)
    const shift = quarter >= 2 ? 4 : 0
    for (let l = 0; l < 16; l++) {
      out[o + 16 * s + l] = dl * ((((b[low + l] >>> shift) & 15) | (((b[high + l] >>> (2 * quarter)) & 3) << 4)) - 32)
    }
  }
}

/** Decodes `count` weights (a multiple of 256) of a K-quant; `bytes` must have their size. */
export function dequantizeK(type: KQuant, bytes: Uint8Array, count: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(count)
  const size = BLOCKS[type][1]
  for (let o = 0, at = 0; o < count; o += 256, at += size) {
    if (type === 'Q2_K') q2(bytes, at, out, o)
    else if (type === 'Q3_K') q3(bytes, at, out, o)
    else if (type === 'Q6_K') q6(bytes, at, out, o)
    else q45(bytes, at, out, o, type === 'Q5_K')
  }
  return out
}
