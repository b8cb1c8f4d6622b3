/** @file f16 pairs as the GPU reads them, and llama.cpp's row order. */
import { FileError } from '../errors.ts'
import { f16FromBits } from './float16.ts'

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
