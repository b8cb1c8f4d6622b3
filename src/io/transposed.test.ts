/** Transposes of every element size, in bands, and parts of rows. */
import { describe, expect, test } from 'vitest'
import { FileError } from '../errors.ts'
import type { StorageType, StoredTensor } from './source.ts'
import { fromBytes } from './sources.ts'
import { transposed } from './transposed.ts'

const stored = (type: StorageType, e: number, R: number, C: number): StoredTensor => {
  // Three bytes before it: the matrix need not begin at a multiple of its element.
  const bytes = Uint8Array.from({ length: 3 + R * C * e }, (_, i) => (i * 31 + (i >> 8) * 7) % 251)
  return { name: 'w', type, shape: [R, C], source: fromBytes('f', bytes), offset: 3, bytes: R * C * e }
}
const SIZES = [
  ['U8', 1, 5, 7],
  ['F16', 2, 3, 4],
  ['F32', 4, 8, 3],
  ['F64', 8, 2, 5],
  // 6 MB: two bands.
  ['F32', 4, 600, 2500],
] as const

describe.each(SIZES)('%s of %i bytes, %i x %i', (type, e, R, C) => {
  const t = stored(type, e, R, C)
  test('whole, and twice the original', async () => {
    const view = transposed(t)
    expect(view.shape).toEqual([C, R])
    const [a, b] = [await t.source.read(3, t.bytes), await view.source.read(view.offset, view.bytes)]
    for (const [r, c] of [
      [0, 0],
      [R - 1, 0],
      [0, C - 1],
      [R - 1, C - 1],
      [R >> 1, C >> 1],
    ])
      // prettier-ignore
      expect([...b.subarray((c * R + r) * e, (c * R + r + 1) * e)]).toEqual([...a.subarray((r * C + c) * e, (r * C + c + 1) * e)])
    const twice = transposed(view)
    expect(Buffer.compare(await twice.source.read(0, twice.bytes), a)).toBe(0)
  })
  test('a range is the same bytes as in the whole', async () => {
    const view = transposed(t)
    const whole = await view.source.read(0, view.bytes)
    for (const [from, n] of [
      [0, R * e],
      [e, 2 * R * e - e],
      [view.bytes - 1, 1],
      [R * e + 1, 0],
    ])
      // prettier-ignore
      expect(Buffer.compare(await view.source.read(from, n), whole.subarray(from, from + n))).toBe(0)
    await expect(view.source.read(view.bytes, 1)).rejects.toThrow(FileError)
  })
})

test('blocks have no transpose', () => {
  expect(() => transposed({ ...stored('U8', 1, 2, 34), type: 'Q8_0', shape: [2, 32], bytes: 68 })).toThrow(/Q8_0 \[2, 32\]/)
})
