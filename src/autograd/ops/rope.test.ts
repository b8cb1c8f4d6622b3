/** @file Rotations against Transformers' apply_rotary_pos_emb (test/golden/rope.py; float64 on the same float32 angles).
 * Tolerance 1e-5: sine and cosine are within 2e-7 at these angles, products and sums are float32. */
import { describe, expect, test } from 'vitest'
import { goldenJson } from '../../../test/files.ts'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { ScalarInput, ShapeError, Graph } from '../../tensor/graph.ts'
import { Storage } from '../../tensor/storage.ts'
import { backward } from '../backward.ts'
import { scale } from './pointwise.ts'
import { rope } from './rope.ts'

interface Rotation {
  headDim: number
  heads: number
  rows: number
  width: number
  positions: number[]
  invFreq: number[]
  x: number[]
  dy: number[]
  y: number[]
  dx: number[]
}
const { rotations } = goldenJson('rope.json') as { rotations: Rotation[] }
const f32 = (v: readonly number[]): Float32Array<ArrayBuffer> => Float32Array.from(v)

describe.each(rotations)('$rows rows of $width, head size $headDim', (c) => {
  test('rotates queries and keys, leaves values, and its gradient rotates back', async () => {
    const out = await run(({ leaf }) => {
      const o = {
        positions: leaf([c.rows], Uint32Array.from(c.positions)),
        invFreq: leaf([c.headDim / 2], f32(c.invFreq)),
        heads: c.heads,
        headDim: c.headDim,
      }
      const x = leaf([c.rows, c.width], f32(c.x), { grad: true })
      const y = rope(scale(x, 1), o)
      backward(y, scale(leaf([c.rows, c.width], f32(c.dy)), 1))
      return { y, dx: x.sink! }
    })
    expect(closeness(out.y, c.y, 1e-5, 1e-5)).toBeLessThan(1)
    expect(closeness(out.dx, c.dx, 1e-5, 1e-5)).toBeLessThan(1)
  })
})

test('angles up to 131,072 radians keep the precision of float32', async () => {
  const rows = 512
  const positions = Uint32Array.from({ length: rows }, (_, i) => i * 256 + 17)
  const out = await run(({ leaf }) => {
    const x = leaf(
      [rows, 2],
      Float32Array.from({ length: rows * 2 }, (_, i) => (i + 1) % 2),
    )
    return {
      y: rope(scale(x, 1), {
        positions: leaf([rows], positions),
        invFreq: leaf([1], Float32Array.of(1)),
        heads: 1,
        headDim: 2,
        mscale: 1.5,
      }),
    }
  })
  const expected = Float32Array.from(
    { length: rows * 2 },
    (_, i) => 1.5 * (i % 2 ? Math.sin(positions[i >> 1]) : Math.cos(positions[i >> 1])),
  )
  // Exact reduction and polynomials good to 1e-7 up to 12,000 radians; beyond, one rounding of a number of size angle / 3000.
  expect(closeness(out.y.subarray(0, 94), expected.subarray(0, 94), 0, 1.5 * 2e-7)).toBeLessThan(1)
  expect(closeness(out.y, expected, 0, 1.5 * 2e-6)).toBeLessThan(1)
})

test('rotates a leading part of each head, and only the live rows', async () => {
  const x = randn([4, 16], 3)
  const invFreq = Float32Array.of(1, 0.1, 0.01)
  const out = await run(({ leaf, g }) => {
    const full = leaf([4, 16], x)
    const live = g.node('live', [4, 16], [full], null, { rows: new ScalarInput(3) })
    const copy = scale(full, 1)
    const y = rope(g.node('live', [4, 16], [copy], null, { rows: live.rows, alias: copy }), {
      positions: leaf([4], Uint32Array.of(5, 6, 7, 8)),
      invFreq: leaf([3], invFreq),
      heads: 1,
      headDim: 8,
    })
    return { y }
  })
  const expected = x.slice()
  for (let r = 0; r < 3; r++)
    for (let i = 0; i < 3; i++) {
      const [a, b] = [x[r * 16 + i], x[r * 16 + i + 3]]
      const t = Math.fround((5 + r) * invFreq[i])
      expected[r * 16 + i] = a * Math.cos(t) - b * Math.sin(t)
      expected[r * 16 + i + 3] = b * Math.cos(t) + a * Math.sin(t)
    }
  expect(closeness(out.y, expected, 1e-5, 1e-5)).toBeLessThan(1)
})

test('says which shapes it does not accept', () => {
  const g = new Graph({ software: true, subgroup: 0, maxBindingSize: 1 << 27 })
  const leaf = (shape: number[]) => g.leaf(new Storage('t', 4096, 'weights'), shape)
  const o = { positions: leaf([4]), invFreq: leaf([4]), heads: 2, headDim: 8 }
  expect(() => rope(leaf([4, 12]), o)).toThrow(ShapeError)
  expect(() => rope(leaf([4, 16]), { ...o, invFreq: leaf([5]) })).toThrow(/at most 4 frequencies/)
  expect(() => rope(leaf([5, 16]), o)).toThrow(/a position for each of 5 rows/)
})
