/**
 * @file A stored tensor, slice by slice, in the layout that the GPU reads. Formats are named as in src/kernels/weight_formats.ts; a stored type that has
 * one of its own keeps its bits. Adding a format: its packing here, its layout there, its decoding in shaders/lib/weights.
 */
import { FileError } from '../../errors.ts'
import { toFloat32 } from '../dequantize.ts'
import { f16Table } from '../float16.ts'
import { packF16 } from '../repack.ts'
import type { StorageType } from '../source.ts'
import { storedBytes } from '../storage.ts'
import { type Pack, packNibbles, packQ45K, packQ6K, packQ8 } from './blocks.ts'
import type { MadeFormat } from './decoder.ts'
import { Nf4Quantizer } from './nf4.ts'
import { quantizeQ8 } from './q8.ts'

/** Formats that are a stored type's own bits. */
const OWN = {
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  Q4_0: 'q4_0',
  Q4_1: 'q4_1',
  Q5_0: 'q5_0',
  Q5_1: 'q5_1',
  Q8_0: 'q8_0',
  Q4_K: 'q4_k',
  Q5_K: 'q5_k',
  Q6_K: 'q6_k',
} as const satisfies Partial<Record<StorageType, string>>
type OwnFormat = (typeof OWN)[keyof typeof OWN]
export type EncodedFormat = OwnFormat | 'nf4'

/** The format that keeps a stored type as it is; null where there is none (F64, Q2_K, Q3_K). */
export const ownFormat = (type: StorageType): OwnFormat | null => (type in OWN ? OWN[type as keyof typeof OWN] : null)

/** Whether a stored type in a format has other values than the file. */
export const losesValues = (type: StorageType, format: EncodedFormat): format is MadeFormat =>
  format !== 'f32' && ownFormat(type) !== format

const PACKERS: Readonly<Partial<Record<EncodedFormat, Pack>>> = {
  q4_0: packNibbles(false, false),
  q4_1: packNibbles(true, false),
  q5_0: packNibbles(false, true),
  q5_1: packNibbles(true, true),
  q8_0: packQ8,
  q4_k: packQ45K(false),
  q5_k: packQ45K(true),
  q6_k: packQ6K,
}

type Words = Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>
export interface Encoder {
  /** The next slice: `count` weights in their stored bytes. Slices but the last hold whole units of the format. Its data, and its scales if they are known yet. */
  slice(bytes: Uint8Array<ArrayBuffer>, count: number): { readonly data: Words; readonly scales: Words | null }
  /** The scales of the whole tensor, from the buffer's first byte on, where they are known only now. */
  end(): Words | null
}
/** Told of a value that is infinite or NaN, or would become so in the format: its place in the slice. */
export type Refuse = (index: number, value: number) => never

function requireFinite(values: Float32Array, refuse: Refuse): void {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) refuse(i, values[i])
}

/** From this magnitude on, rounding to f16 gives infinity. */
const BEYOND_F16 = 65_520
function requireHalves(values: Float32Array, refuse: Refuse): void {
  for (let i = 0; i < values.length; i++) if (Math.abs(values[i]) >= BEYOND_F16) refuse(i, values[i])
}

/** The bits of 16-bit floats as they are; `exponent`: all of its bits. */
function keepHalves(bytes: Uint8Array<ArrayBuffer>, count: number, bf16: boolean, refuse: Refuse): Uint32Array<ArrayBuffer> {
  const out = new Uint32Array(Math.ceil(count / 2))
  new Uint8Array(out.buffer).set(bytes)
  const halves = new Uint16Array(out.buffer)
  const exponent = bf16 ? 0x7f80 : 0x7c00
  for (let i = 0; i < count; i++)
    if ((halves[i] & exponent) === exponent)
      refuse(i, bf16 ? new Float32Array(Uint32Array.of(halves[i] << 16).buffer)[0] : f16Table()[halves[i]])
  return out
}

/** How values become a format. */
function quantizer(
  format: EncodedFormat,
  refuse: Refuse,
): {
  slice(values: Float32Array<ArrayBuffer>): { data: Words; scales: Words | null }
  end(): Words | null
} {
  const end = () => null
  switch (format) {
    case 'f32':
      return { slice: (data) => ({ data, scales: null }), end }
    case 'f16':
      return { slice: (values) => (requireHalves(values, refuse), { data: packF16(values), scales: null }), end }
    case 'q8_0':
      return { slice: quantizeQ8, end }
    case 'nf4': {
      const q = new Nf4Quantizer()
      return { slice: (values) => ({ data: q.push(values), scales: null }), end: () => q.scales() }
    }
    default:
      throw new Error(`nothing is quantised to ${format} on load`)
  }
}

/** @throws FileError from `slice` where the bytes do not fit the count, or a block's scale is no number. */
export function encoder(type: StorageType, format: EncodedFormat, refuse: Refuse): Encoder {
  const check = (bytes: Uint8Array, count: number): void => {
    if (storedBytes(type, count) !== bytes.byteLength)
      throw new FileError(`${count} weights of ${type} do not take ${bytes.byteLength} bytes`, { why: 'The tensor is damaged' })
  }
  const pack = PACKERS[format]
  if (ownFormat(type) === format && (pack || format !== 'f32')) {
    const keep = (bytes: Uint8Array<ArrayBuffer>, count: number) =>
      pack ? pack(bytes) : { data: keepHalves(bytes, count, format === 'bf16', refuse), scales: null }
    return { slice: (bytes, count) => (check(bytes, count), keep(bytes, count)), end: () => null }
  }
  const q = quantizer(format, refuse)
  return {
    slice: (bytes, count) => {
      const values = toFloat32(type, bytes, count)
      requireFinite(values, refuse)
      return q.slice(values)
    },
    end: () => q.end(),
  }
}
