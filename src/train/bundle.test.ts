/** Rows of llama.cpp's rotary order, slice by slice. */
import { expect, test } from 'vitest'
import { tinyBundle } from '../../test/tiny.ts'
import { gatherRows } from '../io/repack.ts'
import { fromBytes } from '../io/sources.ts'
import { type ModelBundle, readRows } from './bundle.ts'

const NAME = 'model.layers.0.self_attn.q_proj.weight'

test('rows in another order are read where they lie: no more of a tensor than the heads that a slice touches', async () => {
  const tiny = await tinyBundle()
  // Four heads of 8 dimensions, rows of 6 bytes.
  const [rows, rowBytes, headDim] = [32, 6, 8]
  const config = { ...tiny.config, heads: 4, kvHeads: 4, headDim }
  const bytes = Uint8Array.from({ length: rows * rowBytes }, (_, i) => i)
  const reads: number[] = []
  const memory = fromBytes('x.gguf', bytes)
  const source = { ...memory, read: (offset: number, length: number) => (reads.push(length), memory.read(offset, length)) }
  const b = { ...tiny, config, files: { ...tiny.files, kind: 'gguf' } } as ModelBundle
  const t = { name: 'blk.0.attn_q.weight', type: 'U8', shape: [rows, rowBytes], source, offset: 0, bytes: bytes.length } as const
  const order = tiny.family.ggufRowOrder(NAME, config)!
  expect([...order].some((from, to) => from !== to)).toBe(true)
  const whole = gatherRows(bytes, rowBytes, order)
  expect(await readRows(b, t, NAME)).toEqual(whole)
  for (const step of [1, 5, 8, 16]) {
    reads.length = 0
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row)
      expect(await readRows(b, t, NAME, row, count)).toEqual(whole.subarray(row * rowBytes, (row + count) * rowBytes))
      const heads = Math.floor((row + count - 1) / headDim) - Math.floor(row / headDim) + 1
      expect(reads.at(-1)).toBeLessThanOrEqual(heads * headDim * rowBytes)
    }
  }
})
