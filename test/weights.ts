/** @file Weights as the GPU stores them in each format, and the values that they mean by the reference decoding of the stored type. */
import { toFloat32 } from '../src/io/dequantize.ts'
import { bf16FromBits, f16Table, toF16 } from '../src/io/float16.ts'
import { encoder, type EncodedFormat } from '../src/io/pack/encoder.ts'
import type { StorageType } from '../src/io/source.ts'
import { BLOCKS } from '../src/io/storage.ts'
import type { WeightFormat } from '../src/kernels/weight_formats.ts'
import { randn } from './gpu.ts'

type Words = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>
export interface TestWeight {
  readonly data: Words
  readonly scales: Uint32Array<ArrayBuffer> | null
  /** float32. */
  readonly values: Float32Array<ArrayBuffer>
}

/** Where f16 scales lie in a block. */
const HALVES: Partial<Record<StorageType, readonly number[]>> = {
  Q4_0: [0], Q4_1: [0, 2], Q5_0: [0], Q5_1: [0, 2], Q8_0: [0], Q3_K: [108], Q4_K: [0, 2], Q5_K: [0, 2], Q6_K: [208],
} // prettier-ignore

/** `count` weights of a stored type: random bits, with scales that make values of about `magnitude`. */
export function storedWeights(type: StorageType, count: number, seed: number, magnitude = 1): Uint8Array<ArrayBuffer> {
  const [elements, size] = BLOCKS[type]
  const blocks = count / elements
  const noise = randn([blocks * size], seed)
  if (type === 'F32') return new Uint8Array(randn([count], seed, 0.3 * magnitude).buffer)
  const out = new Uint8Array(blocks * size)
  for (let i = 0; i < out.length; i++) out[i] = Math.floor(Math.abs(noise[i]) * 1e4)
  const view = new DataView(out.buffer)
  if (type === 'F16') for (let i = 0; i < count; i++) view.setUint16(2 * i, toF16(0.3 * magnitude * noise[i]), true)
  if (type === 'BF16')
    for (let i = 0; i < count; i++)
      view.setUint16(2 * i, bf16FromBits(new Uint32Array(Float32Array.of(0.3 * magnitude * noise[i]).buffer)[0]), true)
  const spread = magnitude * (type === 'Q8_0' ? 0.01 : type === 'Q6_K' ? 0.0005 : type.endsWith('_K') ? 0.003 : 0.05)
  for (let b = 0; b < blocks; b++)
    for (const at of HALVES[type] ?? []) view.setUint16(b * size + at, toF16(spread * (1 + 0.3 * Math.sin(b + at)) * (at ? -3 : 1)), true)
  return out
}

/** Q8 values by the layout's definition. */
export function q8Values(data: Uint32Array, scales: Uint32Array, count: number): Float32Array<ArrayBuffer> {
  const quants = new Int8Array(data.buffer)
  return Float32Array.from({ length: count }, (_, i) => quants[i] * f16Table()[(scales[i >> 6] >>> (16 * ((i >> 5) & 1))) & 0xffff])
}
/** NF4 values by the layout's definition. */
export function nf4Values(data: Uint32Array, scales: Uint32Array, count: number): Float32Array<ArrayBuffer> {
  const code = [-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1] // prettier-ignore
  const real = new Float32Array(scales.buffer)
  const bytes = new Uint8Array(scales.buffer)
  return Float32Array.from({ length: count }, (_, i) => {
    const record = 256 + 18 * Math.floor(i / 4096)
    const maximum = Math.fround(real[bytes[4 * (record + 2) + (Math.floor(i / 64) % 64)]] * real[record]) + real[record + 1]
    return code[(data[i >> 3] >>> (4 * (i & 7))) & 15] * Math.fround(maximum)
  })
}

export const storedType = (format: WeightFormat): StorageType => (format === 'nf4' ? 'F32' : (format.toUpperCase() as StorageType))

/** A random weight [rows, cols] in a format. */
export function testWeight(format: WeightFormat, rows: number, cols: number, seed: number, magnitude = 1): TestWeight {
  const type = storedType(format)
  const count = rows * cols
  const bytes = storedWeights(type, count, seed, magnitude)
  const encode = encoder(type, format satisfies EncodedFormat, (i, v) => {
    throw new Error(`element ${i} is ${v}`)
  })
  const { data, scales } = encode.slice(bytes, count)
  const table = (scales ?? encode.end()) as Uint32Array<ArrayBuffer> | null
  const values = format === 'nf4' ? nf4Values(data as Uint32Array, table!, count) : toFloat32(type, bytes, count)
  return { data, scales: table, values }
}
