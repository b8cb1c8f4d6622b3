/**
 * @file How a frozen matrix lies in GPU memory, format by format: the sizes here, the reading in shaders/lib/weight.wesl, the packing in src/io/pack. Names are
 * GGML's and bitsandbytes'. Weights are numbered along rows; a `unit` of them takes `data` bytes in one buffer and `scales` bytes in another, and matrices that
 * are fused, and slices that are written, begin at multiples of it.
 */
import type { OptionalBinding } from '../gpu/kernel.ts'

interface FormatLayout {
  /** Weights of a piece that stands for itself. */
  readonly unit: number
  /** Bytes of a unit. */
  readonly data: number
  readonly scales: number
  /** Bytes before the first unit's scales. */
  readonly header?: number
  /** Weights that share a scale and an offset, or a divisor of their number that divides 32; 0: there are none. */
  readonly block: 0 | 16 | 32
}

export const FORMAT_LAYOUTS = {
  f32: { unit: 1, data: 4, scales: 0, block: 0 },
  f16: { unit: 2, data: 4, scales: 0, block: 0 },
  bf16: { unit: 2, data: 4, scales: 0, block: 0 },
  q4_0: { unit: 64, data: 32, scales: 4, block: 32 },
  q4_1: { unit: 32, data: 16, scales: 4, block: 32 },
  q5_0: { unit: 64, data: 40, scales: 4, block: 32 },
  q5_1: { unit: 32, data: 20, scales: 4, block: 32 },
  q8_0: { unit: 64, data: 64, scales: 4, block: 32 },
  q4_k: { unit: 256, data: 128, scales: 16, block: 32 },
  q5_k: { unit: 256, data: 160, scales: 16, block: 32 },
  q6_k: { unit: 512, data: 384, scales: 36, block: 16 },
  nf4: { unit: 4096, data: 2048, scales: 72, header: 1024, block: 32 },
} as const satisfies Readonly<Record<string, FormatLayout>>

export type WeightFormat = keyof typeof FORMAT_LAYOUTS
export type WeightFlag = `w_${WeightFormat}`
export const WEIGHT_FORMATS = Object.keys(FORMAT_LAYOUTS) as readonly WeightFormat[]
export const layoutOf = (format: WeightFormat): FormatLayout => FORMAT_LAYOUTS[format]
export const weightFlag = (format: WeightFormat): WeightFlag => `w_${format}`
/** Quantised, with a second buffer of scales. */
export const isPacked = (format: WeightFormat): boolean => FORMAT_LAYOUTS[format].block > 0

/** What a kernel that reads weights declares: its flags, exactly one of them on, and the binding of the scales. */
export const WEIGHT_FLAGS = WEIGHT_FORMATS.map(weightFlag)
export const SCALES_BINDING: OptionalBinding = { access: 'read', when: WEIGHT_FORMATS.filter(isPacked).map(weightFlag) }
/** The format that a set of flags names. */
export const formatOfFlags = (flags: ReadonlySet<string>): WeightFormat => WEIGHT_FORMATS.find((f) => flags.has(weightFlag(f)))!

/** Bytes of a matrix's data and scales. Weights that do not fill their last unit take all of it. */
export function weightBytes(format: WeightFormat, rows: number, cols: number): { data: number; scales: number } {
  const { unit, data, scales, header = 0 } = layoutOf(format)
  const units = Math.ceil((rows * cols) / unit)
  return { data: units * data, scales: scales > 0 ? header + units * scales : 0 }
}

/** Bytes before weight `at` (a multiple of the unit) in the two buffers. */
export function weightOffset(format: WeightFormat, at: number): { data: number; scales: number } {
  const { unit, data, scales, header = 0 } = layoutOf(format)
  if (at % unit) throw new Error(`weight ${at} begins no unit of ${format}`)
  return { data: (at / unit) * data, scales: header + (at / unit) * scales }
}

/** Rows of a piece of a table that fits `limit` bytes. Multiples of 256 rows begin at multiples of 256 bytes, and of every format's unit. */
export const tableStep = (format: WeightFormat, cols: number, limit: number): number =>
  Math.max(256, Math.floor(limit / weightBytes(format, 256, cols).data) * 256)
