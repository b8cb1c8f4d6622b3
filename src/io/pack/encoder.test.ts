/** Formats of the GPU from stored bytes: sizes, slices and refusals, and NF4 beside bitsandbytes (test/golden/nf4.py). That the GPU decodes them exactly is in
 * autograd/ops/embedding.test.ts. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { nf4Values, q8Values, storedType, storedWeights } from '../../../test/weights.ts'
import { FileError } from '../../errors.ts'
import { FORMAT_LAYOUTS, isPacked, layoutOf, weightBytes, WEIGHT_FORMATS, weightOffset } from '../../kernels/weight_formats.ts'
import { toFloat32 } from '../dequantize.ts'
import { f16Table, toF16 } from '../float16.ts'
import type { StorageType } from '../source.ts'
import { decodeWeights } from './decoder.ts'
import { encoder, ownFormat } from './encoder.ts'
import { Nf4Quantizer } from './nf4.ts'
import { quantizeQ8 } from './q8.ts'

const refuse = (i: number, value: number): never => {
  throw new Error(`element ${i} is ${value}`)
}
const bytesOf = (a: ArrayBufferView | null): Uint8Array => (a ? new Uint8Array(a.buffer, a.byteOffset, a.byteLength) : new Uint8Array(0))

describe.each(WEIGHT_FORMATS)('%s', (format) => {
  const type = storedType(format)
  test('takes the bytes that its layout says, and the same ones in slices', () => {
    const [rows, cols] = [40, 512]
    const stored = storedWeights(type, rows * cols, 3)
    const whole = encoder(type, format, refuse)
    const all = whole.slice(stored, rows * cols)
    const scales = all.scales ?? whole.end()
    const size = weightBytes(format, rows, cols)
    expect([all.data.byteLength, scales?.byteLength ?? 0]).toEqual([size.data, size.scales])
    const parts = encoder(type, format, refuse)
    const data = new Uint8Array(size.data)
    const found = new Uint8Array(size.scales)
    for (let row = 0; row < rows; row += 8) {
      const count = 8 * cols
      const part = parts.slice(stored.slice((row / rows) * stored.length, ((row + 8) / rows) * stored.length), count)
      const at = weightOffset(format, row * cols)
      data.set(bytesOf(part.data), at.data)
      if (part.scales) found.set(bytesOf(part.scales), at.scales)
    }
    const last = parts.end()
    if (last) found.set(bytesOf(last))
    expect(Buffer.compare(data, bytesOf(all.data))).toBe(0)
    expect(Buffer.compare(found, bytesOf(scales))).toBe(0)
  })
  test('refuses bytes of another count', () => {
    const stored = storedWeights(type, 512, 3)
    expect(() => encoder(type, format, refuse).slice(stored.slice(0, -2), 512)).toThrow(FileError)
  })
  test('is no wider than what is stored by more than an alignment', () => {
    if (format === 'nf4') return
    const stored = storedWeights(type, 2 ** 14, 3).length
    const { data, scales } = weightBytes(format, 2 ** 7, 2 ** 7)
    expect(data + scales).toBe(stored)
    expect(ownFormat(type)).toBe(format)
  })
})

test('bits of a weight', () => {
  const bits = Object.fromEntries(WEIGHT_FORMATS.map((f) => [f, ((layoutOf(f).data + layoutOf(f).scales) * 8) / FORMAT_LAYOUTS[f].unit]))
  expect(bits).toEqual({
    f32: 32, f16: 16, bf16: 16, q4_0: 4.5, q4_1: 5, q5_0: 5.5, q5_1: 6, q8_0: 8.5, q4_k: 4.5, q5_k: 5.5, q6_k: 6.5625, nf4: 4.140625,
  }) // prettier-ignore
})

test.each(['F16', 'BF16', 'F32'] as const)('a weight of %s that is infinite or NaN is refused with its place', (type: StorageType) => {
  const stored = storedWeights(type, 64, 3)
  const view = new DataView(stored.buffer)
  if (type === 'F16') view.setUint16(2 * 37, 0xfc00, true)
  if (type === 'BF16') view.setUint16(2 * 37, 0xff80, true)
  if (type === 'F32') view.setFloat32(4 * 37, -Infinity, true)
  for (const format of [ownFormat(type)!, 'q8_0', 'nf4'] as const)
    expect(() => encoder(type, format, refuse).slice(stored, 64)).toThrow('element 37 is -Infinity')
})

test.each(WEIGHT_FORMATS.filter((f) => isPacked(f) && f !== 'nf4'))('a scale of %s that is no number is refused', (format) => {
  const type = storedType(format)
  const stored = storedWeights(type, 512, 3)
  const block = stored.length / (512 / (type.endsWith('K') ? 256 : 32))
  new DataView(stored.buffer).setUint16(block + (type === 'Q6_K' ? 208 : 0), 0x7e00, true)
  expect(() => encoder(type, format, refuse).slice(stored, 512)).toThrow(/scale of block 1/)
})

test.each(['f16', 'q8_0', 'nf4'] as const)('%s made on load means on the host what the layout says', (format) => {
  const count = 3 * 4096
  const stored = storedWeights('F32', count, 5)
  const e = encoder('F32', format, refuse)
  const made = e.slice(stored, count)
  const data = made.data as Uint32Array
  const scales = (made.scales ?? e.end() ?? new Uint32Array()) as Uint32Array
  const all = decodeWeights(format, data, scales, 0, count)
  const want = {
    f16: () => toFloat32('F16', bytesOf(data), count),
    q8_0: () => q8Values(data, scales, count),
    nf4: () => nf4Values(data, scales, count),
  }
  // One rounding: of NF4's code to f32, which the GPU has it in.
  want[format]().forEach((v, i) => expect(Math.abs(all[i] - v)).toBeLessThanOrEqual(2 ** -23 * Math.abs(v)))
  expect(decodeWeights(format, data, scales, 5000, 200)).toEqual(all.slice(5000, 5200))
})

test('a value that f16 cannot hold is refused with its place', () => {
  const values = Float32Array.from([1, 65_504, 65_519, -65_520])
  expect(() => encoder('F32', 'f16', refuse).slice(new Uint8Array(values.buffer), 4)).toThrow('element 3 is -65520')
})

describe('Q8 on load', () => {
  test('is within half a step of the values; a block of zeros stays zero', () => {
    const values = Float32Array.from({ length: 96 }, (_, i) => (i < 64 ? Math.sin(i * i) * (i < 32 ? 3 : 1e-3) : 0))
    const { data, scales } = quantizeQ8(values)
    const quants = new Int8Array(data.buffer)
    for (let i = 0; i < 96; i++) {
      const d = f16Table()[(scales[i >> 6] >>> (16 * ((i >> 5) & 1))) & 0xffff]
      // d itself is rounded to 11 bits: 127 of it may be off by 127 times that.
      expect(Math.abs(quants[i] * d - values[i])).toBeLessThanOrEqual(d * (0.5 + 127 * 2 ** -11))
    }
    expect(quants.subarray(64).every((q) => q === 0)).toBe(true)
  })
  test('weights beyond what an f16 scale holds take its largest number', () => {
    const { data, scales } = quantizeQ8(Float32Array.from({ length: 32 }, () => 1e9))
    expect(scales[0]).toBe(0x7bff)
    expect(new Int8Array(data.buffer).every((q) => q === 127)).toBe(true)
    expect(toF16(65504)).toBe(0x7bff)
  })
})

interface Case {
  readonly name: string
  readonly count: number
  readonly float16: string
  readonly codes: string
  readonly maxima: string
  readonly map: string
  /** The maxima that the codes of maxima mean. */
  readonly float32: string
}
const { cases } = JSON.parse(readFileSync(new URL('../../../test/golden/io/nf4.json', import.meta.url), 'utf8')) as { cases: Case[] }
const decode = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, 'base64'))

test.each(cases)('NF4 as bitsandbytes makes it: $name', (c) => {
  const halves = new Uint16Array(decode(c.float16).buffer)
  const q = new Nf4Quantizer()
  const data = q.push(Float32Array.from(halves, (h) => f16Table()[h]))
  const scales = q.scales()
  expect(Array.from({ length: c.count }, (_, i) => (data[i >> 3] >>> (4 * (i & 7))) & 15)).toEqual([...decode(c.codes)])
  const map = new Float32Array(scales.buffer, 0, 256)
  expect([...map]).toEqual([...new Float32Array(decode(c.map).buffer)])
  const bytes = new Uint8Array(scales.buffer)
  const maxima = Array.from(decode(c.maxima), (_, i) => bytes[4 * (256 + 18 * (i >> 6) + 2) + (i & 63)])
  expect(maxima).toEqual([...decode(c.maxima)])
  // The mean of the maxima is summed in another order: one rounding of it, and of what follows from it.
  const real = new Float32Array(scales.buffer)
  const want = new Float32Array(decode(c.float32).buffer)
  for (const [b, maximum] of want.entries()) {
    const record = 256 + 18 * (b >> 6)
    expect(Math.abs(map[maxima[b]] * real[record] + real[record + 1] - maximum)).toBeLessThan(3e-7 * Math.max(...want))
  }
})
