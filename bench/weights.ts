/** @file Random matrices in each format that the engine keeps frozen weights in, with the values that they stand for. */
import { fromFloat32, toFloat32 } from '../src/io/dequantize.ts'
import { toF16 } from '../src/io/float16.ts'
import { encoder, type EncodedFormat } from '../src/io/pack/encoder.ts'
import { BLOCKS } from '../src/io/storage.ts'
import { random } from './model.ts'

export const BENCH_FORMATS = [
  'f32',
  'f16',
  'q4_0',
  'q4_1',
  'q4_k',
  'nf4',
  'q5_0',
  'q5_1',
  'q5_k',
  'q6_k',
  'q8_0',
] as const satisfies readonly EncodedFormat[]
export type BenchFormat = (typeof BENCH_FORMATS)[number]

export interface BenchWeight {
  readonly data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>
  readonly scales: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | null
  /** What the packed bits mean; where they were rounded on packing (nf4, q8_0): what went in. */
  readonly values: Float32Array<ArrayBuffer>
  /** Most that a product with it may be off by, relative to the norm of the product by `values`. */
  readonly tolerance: number
}

/** GGML's types whose blocks are made of random bits here, and where a block has its f16 scales: byte → what makes weights of up to about 1. */
const BLOCK_SCALES = {
  Q4_0: { 0: 1 / 8 },
  Q4_1: { 0: 1 / 8, 2: -1 },
  Q5_0: { 0: 1 / 16 },
  Q5_1: { 0: 1 / 16, 2: -1 },
  // Beside 6-bit scales and minima of about 32, and 8-bit scales of about 64.
  Q4_K: { 0: 1 / 256, 2: 1 / 32 },
  Q5_K: { 0: 1 / 512, 2: 1 / 32 },
  Q6_K: { 208: 1 / 2048 },
} as const
type BlockType = keyof typeof BLOCK_SCALES
const isBlockType = (type: string): type is BlockType => type in BLOCK_SCALES

/** Stored bytes of `count` weights: random bits, with scales half as large as in BLOCK_SCALES to half as large again. */
function randomBlocks(type: BlockType, count: number, next: () => number): Uint8Array<ArrayBuffer> {
  const [elements, size] = BLOCKS[type]
  const bytes = Uint8Array.from({ length: (count / elements) * size }, () => Math.floor(next() * 256))
  const view = new DataView(bytes.buffer)
  for (let block = 0; block < bytes.length; block += size)
    for (const [at, scale] of Object.entries<number>(BLOCK_SCALES[type]))
      view.setUint16(block + Number(at), toF16((0.5 + next()) * scale), true)
  return bytes
}

/** Products in f32 are off by less than 1e-4. To it come what is rounded on packing: half a step of 127 a weight in 8-bit blocks, about a tenth of a weight's deviation in NF4. */
const toleranceOf = (format: BenchFormat): number => (format === 'q8_0' ? 0.01 : format === 'nf4' ? 0.15 : 1e-4)

export function benchWeight(format: BenchFormat, count: number, seed: number): BenchWeight {
  const next = random(seed)
  const tolerance = toleranceOf(format)
  const floats = () => Float32Array.from({ length: count }, () => next() * 2 - 1)
  if (format === 'f32') {
    const values = floats()
    return { data: values, scales: null, values, tolerance }
  }
  const refuse = (i: number, v: number): never => {
    throw new Error(`element ${i} is ${v}`)
  }
  const name = format.toUpperCase()
  const type = isBlockType(name) ? name : format === 'f16' ? 'F16' : 'F32'
  const bytes = isBlockType(type) ? randomBlocks(type, count, next) : fromFloat32(type, floats())
  const encode = encoder(type, format, refuse)
  const { data, scales } = encode.slice(bytes, count)
  return { data, scales: scales ?? encode.end(), values: toFloat32(type, bytes, count), tolerance }
}
