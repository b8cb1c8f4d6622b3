/** @file Frozen weights on the host, rows at a time: as the file holds them, or as the GPU will. */
import { ModelError } from '../errors.ts'
import { decodeWeights, type MadeFormat } from '../io/pack/decoder.ts'
import { encoder, losesValues, type Refuse } from '../io/pack/encoder.ts'
import { layoutOf, weightBytes, type WeightFormat, weightOffset } from '../kernels/weight_formats.ts'
import type { Param } from '../models/family.ts'
import type { HostSite } from '../peft/method.ts'
import { type ModelBundle, notFinite, readFloats, readRows, stored } from './bundle.ts'

type Linear = Extract<Param, { kind: 'linear' }>

/** Weights of a slice, about: 4 MB of f32. */
const SLICE = 2 ** 20
/** Rows read at once: about `SLICE` weights, in whole units of the format. */
export function rowsAtOnce(format: WeightFormat, cols: number): number {
  const { unit } = layoutOf(format)
  let least = unit
  while (least > 1 && ((least / 2) * cols) % unit === 0) least /= 2
  return Math.max(1, Math.floor(SLICE / cols / least)) * least
}

/** Refuses a value of a tensor: `first()` is the element that its slice begins with. */
export const refuser =
  (b: ModelBundle, name: string, first: () => number): Refuse =>
  (i, value) => {
    if (!Number.isFinite(value)) notFinite(first() + i, value, name, b.files.name)
    throw new ModelError(`element ${first() + i} is ${value}, and f16 holds up to 65504`, {
      where: `${b.files.name}, tensor ${name}`,
      why: 'it would become infinite, and every output NaN',
      fix: 'Keep the frozen weights in another form: base keep, f32, q8 or nf4',
    })
  }

/** Told how many bytes of the file were read; may throw to end it. */
export type OnRead = (bytes: number) => void

type Rows = (first: number, rows: number) => Promise<Float32Array<ArrayBuffer>>

/** Rows as the file holds them. */
function fileRows(b: ModelBundle, p: Linear, onRead: OnRead): Rows {
  const name = `${p.name}.weight`
  const shape = [p.rows, p.cols]
  const rowBytes = stored(b, name, shape).bytes / p.rows
  const step = rowsAtOnce('f32', p.cols)
  return async (first, rows) => {
    const out = new Float32Array(rows * p.cols)
    for (let row = 0; row < rows; row += step) {
      const n = Math.min(step, rows - row)
      out.set(await readFloats(b, name, shape, first + row, n), row * p.cols)
      onRead(n * rowBytes)
    }
    return out
  }
}

/** Rows as a format that loses something holds them. The tensor is encoded once, when first asked: some scales depend on all of it. */
function keptRows(b: ModelBundle, p: Linear, format: MadeFormat, onRead: OnRead): Rows {
  let made: Promise<{ data: Uint32Array; scales: Uint32Array }> | null = null
  const encode = async () => {
    const name = `${p.name}.weight`
    const t = stored(b, name, [p.rows, p.cols])
    const size = weightBytes(format, p.rows, p.cols)
    const [data, scales] = [size.data, size.scales].map((n) => new Uint32Array(Math.ceil(n / 4)))
    let row = 0
    const e = encoder(
      t.type,
      format,
      refuser(b, name, () => row * p.cols),
    )
    const step = rowsAtOnce(format, p.cols)
    const put = (to: Uint32Array, from: ArrayBufferView, at: number): void =>
      new Uint8Array(to.buffer).set(new Uint8Array(from.buffer, from.byteOffset, from.byteLength), at)
    for (; row < p.rows; row += step) {
      const rows = Math.min(step, p.rows - row)
      const slice = e.slice(await readRows(b, t, name, row, rows), rows * p.cols)
      const at = weightOffset(format, row * p.cols)
      put(data, slice.data, at.data)
      if (slice.scales) put(scales, slice.scales, at.scales)
      onRead((t.bytes / p.rows) * rows)
    }
    const last = e.end()
    if (last) put(scales, last, 0)
    return { data, scales }
  }
  return async (first, rows) => {
    const { data, scales } = await (made ??= encode())
    return decodeWeights(format, data, scales, first * p.cols, rows * p.cols)
  }
}

/** A linear layer on the host. `format`: how the GPU keeps its weight, by default as the file does. */
export function hostSite(b: ModelBundle, p: Linear, format: WeightFormat = 'f32', onRead: OnRead = () => undefined): HostSite {
  const { type } = stored(b, `${p.name}.weight`, [p.rows, p.cols])
  const rows = losesValues(type, format) ? keptRows(b, p, format, onRead) : fileRows(b, p, onRead)
  return { name: p.name, inFeatures: p.cols, outFeatures: p.rows, weight: (first = 0, count = p.rows - first) => rows(first, count) }
}
