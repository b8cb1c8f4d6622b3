/** @file Symmetric 8-bit blocks of 32, quantised on load. */
import { f16Table, toF16 } from '../float16.ts'
import type { Packed } from './blocks.ts'

/** As GGUF's Q8_0 (ggml-quants.c, `quantize_row_q8_0_ref`): d = max|x| / 127, q = round(x / d) with ties away from zero, d stored as f16.
 * The count must be a multiple of 32. A scale beyond f16's range becomes its largest number. */
export function quantizeQ8(values: Float32Array): Packed {
  const { fround } = Math
  const blocks = values.length / 32
  const quants = new Int8Array(values.length)
  const scales = new Uint32Array(Math.ceil(blocks / 2))
  const table = f16Table()
  for (let b = 0; b < blocks; b++) {
    let max = 0
    for (let i = b * 32; i < b * 32 + 32; i++) max = Math.max(max, Math.abs(values[i]))
    const d = fround(max / 127)
    const bits = Math.min(toF16(d), 0x7bff)
    scales[b >> 1] |= bits << (16 * (b & 1))
    // A d that f16 cannot hold is not divided by: what is stored would mean something else.
    const inverse = table[bits] === 0 ? 0 : bits === 0x7bff ? 1 / table[bits] : fround(1 / d)
    for (let i = b * 32; i < b * 32 + 32; i++) {
      const x = fround(values[i] * inverse)
      const q = Math.sign(x) * Math.floor(Math.abs(x) + 0.5)
      quants[i] = Math.max(-127, Math.min(127, q))
    }
  }
  return { data: new Uint32Array(quants.buffer), scales }
}

/** Values [from, from + count) of a tensor that `quantizeQ8` made. */
export function decodeQ8(data: Uint32Array, scales: Uint32Array, from: number, count: number): Float32Array<ArrayBuffer> {
  const quants = new Int8Array(data.buffer, data.byteOffset)
  const table = f16Table()
  const out = new Float32Array(count)
  for (let i = 0, at = from; i < count; i++, at++) out[i] = quants[at] * table[(scales[at >> 6] >>> (16 * ((at >> 5) & 1))) & 0xffff]
  return out
}
