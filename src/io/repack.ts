/**
 * @file Layouts of frozen weights on the GPU, and llama.cpp's row order. Block-quantised weights keep their bits: 4 stay 4, 8 stay 8. Blocks are 32 weights along
 * the input dimension. `q4`: w = d·q + m, q in 0…15; `q8`: w = d·q, q in -128…127.
 */
import { FileError } from '../errors.ts'
import { f16FromBits, f16Table, toF16 } from './float16.ts'
import type { StorageType } from './source.ts'
import { viewOf } from './sources.ts'
import { storedBytes } from './storage.ts'

export interface PackedQ4 {
  readonly format: 'q4'
  /** 8 consecutive weights a word; weight k in bits 4·(k mod 8). */
  readonly quants: Uint32Array<ArrayBuffer>
  /** One word a block: f16 d in the low half, f16 m in the high half. */
  readonly scales: Uint32Array<ArrayBuffer>
}
export interface PackedQ8 {
  readonly format: 'q8'
  /** 4 consecutive int8 a word, little end first. */
  readonly quants: Uint32Array<ArrayBuffer>
  /** d of each block. */
  readonly scales: Float32Array<ArrayBuffer>
}
export type PackableType = 'Q4_0' | 'Q4_1' | 'Q8_0'

/** Types `repack` takes as they are. */
export const isPackable = (type: StorageType): type is PackableType => type === 'Q4_0' || type === 'Q4_1' || type === 'Q8_0'

/** Low nibbles of 4 bytes, side by side in 16 bits. */
function squeeze(x: number): number {
  const pairs = ((x & 0x0f0f0f0f) | ((x & 0x0f0f0f0f) >>> 4)) & 0x00ff00ff
  return (pairs | (pairs >>> 8)) & 0xffff
}

function repackQ4(type: 'Q4_0' | 'Q4_1', bytes: Uint8Array, count: number): PackedQ4 {
  const blocks = count / 32
  const quants = new Uint32Array(count / 8)
  const scales = new Uint32Array(blocks)
  const table = f16Table()
  const view = viewOf(bytes)
  for (let i = 0, at = 0; i < blocks; i++) {
    if (type === 'Q4_1') {
      scales[i] = view.getUint32(at, true)
      at += 4
    } else {
      const d = view.getUint16(at, true)
      const m = toF16(-8 * table[d])
      if ((m & 0x7c00) === 0x7c00)
        throw new FileError(`The scale of block ${i} is ${table[d]}`, {
          why: 'No real weights are that large; the tensor is damaged',
          fix: 'Download the file again',
        })
      scales[i] = (d | (m << 16)) >>> 0
      at += 2
    }
    for (let k = 0; k < 2; k++, at += 8) {
      const a = view.getUint32(at, true)
      const b = view.getUint32(at + 4, true)
      quants[4 * i + k] = squeeze(a) | (squeeze(b) << 16)
      quants[4 * i + 2 + k] = squeeze(a >>> 4) | (squeeze(b >>> 4) << 16)
    }
  }
  return { format: 'q4', quants, scales }
}

function repackQ8(bytes: Uint8Array, count: number): PackedQ8 {
  const blocks = count / 32
  const quants = new Uint8Array(count)
  const scales = new Float32Array(blocks)
  const table = f16Table()
  for (let i = 0, at = 0; i < blocks; i++, at += 34) {
    scales[i] = table[bytes[at] | (bytes[at + 1] << 8)]!
    quants.set(bytes.subarray(at + 2, at + 34), 32 * i)
  }
  return { format: 'q8', quants: new Uint32Array(quants.buffer), scales }
}

/**
 * GPU layout of block-quantised weights.
 * @param bytes the stored blocks of `count` weights, row after row; rows must be whole blocks.
 * @throws FileError where the bytes do not fit the count.
 */
export function repack(type: 'Q4_0' | 'Q4_1', bytes: Uint8Array, count: number): PackedQ4
export function repack(type: 'Q8_0', bytes: Uint8Array, count: number): PackedQ8
export function repack(type: PackableType, bytes: Uint8Array, count: number): PackedQ4 | PackedQ8
export function repack(type: PackableType, bytes: Uint8Array, count: number): PackedQ4 | PackedQ8 {
  if (storedBytes(type, count) !== bytes.byteLength) {
    throw new FileError(`${count} weights of ${type} do not take ${bytes.byteLength} bytes`, { why: 'The tensor is damaged' })
  }
  return type === 'Q8_0' ? repackQ8(bytes, count) : repackQ4(type, bytes, count)
}

/** float32 to f16, two a word, low half first, rounding to nearest even. An odd count leaves the last high half 0. Values beyond ±65504 become infinite. */
export function packF16(values: Float32Array): Uint32Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint32Array(Math.ceil(values.length / 2))
  const halves = new Uint16Array(out.buffer)
  for (let i = 0; i < bits.length; i++) halves[i] = f16FromBits(bits[i])
  return out
}

/**
 * Where each Hugging Face row of a q or k projection lies in a llama.cpp GGUF: there, rows of a head alternate between its two rotary halves
 * (convert_hf_to_gguf.py, `LlamaModel.permute`: reshape(n_head, 2, head_dim/2, in).swapaxes(1, 2)).
 * @param nHead query heads for q, key/value heads for k.
 * @returns HF row → GGUF row; nHead·headDim long.
 */
export function ropeRowOrder(nHead: number, headDim: number): Uint32Array<ArrayBuffer> {
  const order = new Uint32Array(nHead * headDim)
  const halfDim = headDim / 2
  for (let h = 0; h < nHead; h++) {
    for (let s = 0; s < 2; s++) for (let j = 0; j < halfDim; j++) order[h * headDim + s * halfDim + j] = h * headDim + 2 * j + s
  }
  return order
}

/**
 * Rows in another order, of whatever storage type: rows are opaque bytes.
 * @param order new row → old row, each below bytes.length / rowBytes.
 * @throws FileError where the bytes are no whole rows or a row is not there.
 */
export function gatherRows(bytes: Uint8Array, rowBytes: number, order: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const rows = bytes.length / rowBytes
  if (!Number.isInteger(rows))
    throw new FileError(`${bytes.length} bytes are no whole rows of ${rowBytes}`, {
      why: 'The tensor does not have the shape the model needs',
    })
  const out = new Uint8Array(order.length * rowBytes)
  for (let i = 0; i < order.length; i++) {
    const from = order[i]
    if (from >= rows)
      throw new FileError(`Row ${from} is asked of a tensor with ${rows}`, { why: 'The tensor does not have the heads the model needs' })
    out.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), i * rowBytes)
  }
  return out
}
