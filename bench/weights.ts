/** @file Random matrices in each format that the engine keeps frozen weights in, with the values that they stand for. */
import { fromFloat32, toFloat32 } from '../src/io/dequantize.ts'
import { toF16 } from '../src/io/float16.ts'
import { encoder, type EncodedFormat } from '../src/io/pack/encoder.ts'
import { random } from './model.ts'

export const BENCH_FORMATS = ['f32', 'f16', 'q4_1', 'q4_0', 'q8_0', 'nf4'] as const satisfies readonly EncodedFormat[]
export type BenchFormat = (typeof BENCH_FORMATS)[number]

export interface BenchWeight {
  readonly data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>
  readonly scales: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | null
  /** What the packed bits mean; where they were rounded on packing (nf4, q8_0): what went in. */
  readonly values: Float32Array<ArrayBuffer>
  /** Most that a product with it may be off by, relative to the norm of the product by `values`. */
  readonly tolerance: number
}

/** Bytes of GGUF's 4-bit blocks of 32: random codes, a scale that makes values up to about 1. */
function fourBits(type: 'Q4_0' | 'Q4_1', count: number, next: () => number): Uint8Array<ArrayBuffer> {
  const size = type === 'Q4_0' ? 18 : 20
  const bytes = Uint8Array.from({ length: (count / 32) * size }, () => Math.floor(next() * 256))
  const view = new DataView(bytes.buffer)
  for (let at = 0; at < bytes.length; at += size) {
    view.setUint16(at, toF16((0.5 + next()) / 8), true)
    if (type === 'Q4_1') view.setUint16(at + 2, toF16(-(0.5 + next())), true)
  }
  return bytes
}

/** Rounding to the format: of f32 products alone 1e-5; 8-bit blocks half a step of 127 a weight, NF4 about a tenth of a weight's deviation. */
const TOLERANCE: Readonly<Record<BenchFormat, number>> = { f32: 1e-4, f16: 1e-4, q4_0: 1e-4, q4_1: 1e-4, q8_0: 0.01, nf4: 0.15 }

export function benchWeight(format: BenchFormat, count: number, seed: number): BenchWeight {
  const next = random(seed)
  const tolerance = TOLERANCE[format]
  const floats = () => Float32Array.from({ length: count }, () => next() * 2 - 1)
  if (format === 'f32') {
    const values = floats()
    return { data: values, scales: null, values, tolerance }
  }
  const refuse = (i: number, v: number): never => {
    throw new Error(`element ${i} is ${v}`)
  }
  const type = format === 'q4_0' ? 'Q4_0' : format === 'q4_1' ? 'Q4_1' : format === 'f16' ? 'F16' : 'F32'
  const bytes = type === 'Q4_0' || type === 'Q4_1' ? fourBits(type, count, next) : fromFloat32(type, floats())
  const encode = encoder(type, format, refuse)
  const { data, scales } = encode.slice(bytes, count)
  return { data, scales: scales ?? encode.end(), values: toFloat32(type, bytes, count), tolerance }
}
