/** Column ops against torch in float64 (test/golden/layer_ops.py). 1e-4 relative: sums over up to 130 rows. */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/columns.json'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { f32, live, MODES, rowsOf } from '../../../test/modes.ts'
import { ShapeError } from '../../tensor/graph.ts'
import { backward } from '../backward.ts'
import { addBias, concatColumns, mulColumns, sliceColumns } from './columns.ts'
import { scale } from './pointwise.ts'

describe.each(MODES)('$name', (mode) => {
  test.each(cases)('$kind [$M, $N]: output, gradients, sums of micro-batches', async ({ kind, M, N, x, c, dy, y, dx, dc }) => {
    const op = kind === 'mul' ? mulColumns : addBias
    const out = await run(({ leaf }) => {
      const tx = leaf(...rowsOf(mode, [M, N], x))
      const shape = { rows: tx.rows, grad: true }
      const t = leaf(tx.shape, rowsOf(mode, [M, N], x)[1], shape)
      const tc = leaf([N], f32(c), { grad: true })
      const ty = op(t, tc)
      const seed = leaf(...rowsOf(mode, [M, N], dy))
      backward(ty, seed)
      backward(op(tx, tc), seed)
      const [u, v] = [scale(t, 1), scale(tc, 1)]
      const [du, dv] = backward(op(u, v), seed, [u, v])
      return { y: ty, dx: t.sink!, dc: tc.sink!, du: du!, dv: dv! }
    }, mode.traits)
    expect(closeness(live(out.y, y), y)).toBeLessThan(1)
    expect(closeness(live(out.dx, dx), dx)).toBeLessThan(1)
    expect(closeness(live(out.du, dx), dx)).toBeLessThan(1)
    expect(
      closeness(
        out.dc.map((v) => v / 2),
        dc,
      ),
    ).toBeLessThan(1)
    expect(closeness(out.dv, dc)).toBeLessThan(1)
  })
})

/** Columns from … from + n - 1 of [M, N] values. */
const columns = (v: ArrayLike<number>, N: number, from: number, n: number): number[] =>
  Array.from({ length: (v.length / N) * n }, (_, i) => v[Math.floor(i / n) * N + from + (i % n)])

describe.each(MODES.slice(0, 2))('blocks of columns, $name', (mode) => {
  test.each([
    { M: 1, sizes: [4, 8] },
    { M: 3, sizes: [1, 3, 5] },
    { M: 33, sizes: [12, 4, 16] },
  ])('join and split $M rows of $sizes', async ({ M, sizes }) => {
    const N = sizes.reduce((a, b) => a + b)
    const [x, dy] = [randn([M, N], 1), randn([M, N], 2)]
    const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0))
    const out = await run(({ leaf }) => {
      const [shape, values, o] = rowsOf(mode, [M, N], [...x])
      const t = leaf(shape, values, { ...o, grad: true })
      const s = scale(t, 1)
      const parts = sizes.map((n, i) => sliceColumns(s, starts[i], n))
      const joined = concatColumns(parts)
      backward(joined, leaf(...rowsOf(mode, [M, N], [...dy])))
      // One part alone: the gradient of the others' columns is zero.
      const u = scale(t, 1)
      const part = sliceColumns(u, starts[1], sizes[1])
      const seed = leaf(...rowsOf(mode, [M, sizes[1]], columns(dy, N, starts[1], sizes[1])))
      return { joined, part, dx: t.sink!, alone: backward(part, seed, [u])[0]! }
    }, mode.traits)
    expect(closeness(live(out.joined, x), x, 0, 1e-7)).toBeLessThan(1)
    expect(closeness(live(out.dx, dy), dy, 0, 1e-7)).toBeLessThan(1)
    const expected = columns(x, N, starts[1], sizes[1])
    expect(closeness(live(out.part, expected), expected, 0, 1e-7)).toBeLessThan(1)
    const inside = (i: number): boolean => i % N >= starts[1] && i % N < starts[1] + sizes[1]
    const d = dy.map((v, i) => (inside(i) ? v : 0))
    expect(closeness(live(out.alone, d), d, 0, 1e-7)).toBeLessThan(1)
  })
})

test('refuses shapes that do not fit', async () => {
  await run(({ leaf }) => {
    const x = leaf([2, 8], randn([2, 8], 1))
    expect(() => mulColumns(x, leaf([4], randn([4], 1)))).toThrow(ShapeError)
    expect(() => sliceColumns(x, 5, 4)).toThrow('5 … 8')
    expect(() => concatColumns([x, leaf([3, 8], randn([3, 8], 1))])).toThrow(ShapeError)
    expect(() => concatColumns([])).toThrow(ShapeError)
    return { y: scale(x, 1) }
  })
})
