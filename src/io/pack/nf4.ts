/**
 * @file Quantising to NF4 with double quantisation, as bitsandbytes' `quantize_4bit(quant_type='nf4', compress_statistics=True)` with blocks of 64
 * (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3; bitsandbytes/functional.py and backends/default/ops.py).
 */
const { fround } = Math

/** Quantiles of the normal distribution with an exact zero; shaders/lib/weights/nf4.wesl has them too. */
export const NF4_CODE = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
] // prettier-ignore
const BOUNDS = Float32Array.from({ length: 15 }, (_, i) => fround(fround(NF4_CODE[i] + NF4_CODE[i + 1]) / 2))
const BLOCK = 64
/** Absolute maxima that share a scale of their own. */
const NESTED = 256
/** Blocks of a record of the GPU's layout. */
const RECORD = 64
/** Entries of the map that scales begin with. */
const MAP = 256

/** Signed dynamic map of 8 bits (Dettmers 2015, https://arxiv.org/abs/1511.04561; `create_dynamic_map`): powers of ten with growing fractions. Ascending, f32. */
function dynamicMap(): Float32Array<ArrayBuffer> {
  const values = [0, 1]
  for (let i = 0; i < 7; i++) {
    const items = 2 ** i
    // torch.linspace in f32, with one rounding: from the start up to the middle, from the end down after it.
    const step = fround(fround(1 - fround(0.1)) / items)
    const boundary = (j: number): number => (j < (items + 1) / 2 ? fround(fround(0.1) + step * j) : fround(1 - step * (items - j)))
    for (let j = 0; j < items; j++) {
      const mean = fround(fround(boundary(j) + boundary(j + 1)) / 2)
      const v = fround(fround(10 ** (i - 6)) * mean)
      values.push(v, -v)
    }
  }
  return Float32Array.from(values).sort()
}
let map: Float32Array<ArrayBuffer> | null = null

/** Index of the closest entry of the map; of two as close, the lower. */
function closest(code: Float32Array, x: number): number {
  let [low, high] = [0, code.length - 1]
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (code[middle] <= x) low = middle
    else high = middle - 1
  }
  return low < code.length - 1 && Math.abs(fround(x - code[low + 1])) < Math.abs(fround(x - code[low])) ? low + 1 : low
}

/** One tensor, in slices of whole blocks (all but the last). */
export class Nf4Quantizer {
  readonly #maxima: Float32Array<ArrayBuffer>[] = []

  /** 4-bit codes of the next values, first lowest, 8 to a word. */
  push(values: Float32Array): Uint32Array<ArrayBuffer> {
    const blocks = Math.ceil(values.length / BLOCK)
    const maxima = new Float32Array(blocks)
    const data = new Uint32Array(Math.ceil(values.length / 8))
    for (let b = 0; b < blocks; b++) {
      const [from, to] = [b * BLOCK, Math.min(values.length, (b + 1) * BLOCK)]
      let max = 0
      for (let i = from; i < to; i++) max = Math.max(max, Math.abs(values[i]))
      maxima[b] = max
      const inverse = fround(1 / Math.max(max, fround(1e-38)))
      for (let i = from; i < to; i++) data[i >> 3] |= nearest(fround(values[i] * inverse)) << (4 * (i & 7))
    }
    this.#maxima.push(maxima)
    return data
  }

  /** The absolute maxima, quantised to 8 bits: layout in shaders/lib/weights/scales.wesl. */
  scales(): Uint32Array<ArrayBuffer> {
    const code = (map ??= dynamicMap())
    const count = this.#maxima.reduce((n, m) => n + m.length, 0)
    const maxima = new Float32Array(count)
    let sum = 0
    let at = 0
    for (const m of this.#maxima) {
      maxima.set(m, at)
      at += m.length
      for (const v of m) sum += v
    }
    const offset = fround(sum / count)
    const out = new Uint32Array(code.length + Math.ceil(count / RECORD) * 18)
    const [real, bytes] = [new Float32Array(out.buffer), new Uint8Array(out.buffer)]
    real.set(code)
    for (let from = 0; from < count; from += NESTED) {
      const to = Math.min(count, from + NESTED)
      let max = 0
      for (let i = from; i < to; i++) max = Math.max(max, Math.abs(fround(maxima[i] - offset)))
      for (let i = from; i < to; i++) {
        const record = code.length + 18 * Math.floor(i / RECORD)
        real[record] = max
        real[record + 1] = offset
        bytes[4 * (record + 2) + (i % RECORD)] = max === 0 ? 0 : closest(code, fround(fround(maxima[i] - offset) / max))
      }
    }
    return out
  }
}

/** Values [from, from + count) of a tensor: its data and its `scales()`. */
export function decodeNf4(data: Uint32Array, scales: Uint32Array, from: number, count: number): Float32Array<ArrayBuffer> {
  const real = new Float32Array(scales.buffer, scales.byteOffset)
  const bytes = new Uint8Array(scales.buffer, scales.byteOffset)
  const out = new Float32Array(count)
  for (let i = 0, at = from; i < count; i++, at++) {
    const block = Math.floor(at / BLOCK)
    const record = MAP + 18 * Math.floor(block / RECORD)
    const maximum = fround(fround(real[bytes[4 * (record + 2) + (block % RECORD)]] * real[record]) + real[record + 1])
    out[i] = fround(NF4_CODE[(data[at >> 3] >>> (4 * (at & 7))) & 15]) * maximum
  }
  return out
}

/** Code of a value in -1 … 1: how many of the bounds lie below it. */
function nearest(x: number): number {
  let code = x > BOUNDS[7] ? 8 : 0
  if (x > BOUNDS[code + 3]) code += 4
  if (x > BOUNDS[code + 1]) code += 2
  return x > BOUNDS[code] ? code + 1 : code
}
