/** @file Quantising on the host, for formats that have no kernel of their own. */

/** Symmetric 8-bit blocks of 32, as GGUF's Q8_0 (ggml-quants.c, quantize_row_q8_0): d = max|x| / 127, q = round(x / d).
 * Returns the GPU layout of shaders/lib/weight.wesl. The count must be a multiple of 32. */
export function quantizeQ8(values: Float32Array): { quants: Uint32Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const quants = new Int8Array(values.length)
  const scales = new Float32Array(values.length / 32)
  for (let b = 0; b < scales.length; b++) {
    let max = 0
    for (let i = b * 32; i < b * 32 + 32; i++) max = Math.max(max, Math.abs(values[i]))
    const d = max / 127
    scales[b] = d
    if (d > 0) for (let i = b * 32; i < b * 32 + 32; i++) quants[i] = Math.round(values[i] / d)
  }
  return { quants: new Uint32Array(quants.buffer), scales }
}
