/** The gradient walk where tensors are used more than once. */
import { expect, test } from 'vitest'
import { closeness, randn, run } from '../../test/gpu.ts'
import { backward, checkpoint } from './backward.ts'
import { mulColumns } from './ops/columns.ts'
import { add, scale } from './ops/pointwise.ts'

test.each([false, true])('a gradient that two users share is not added to in place (recomputed: %s)', async (recomputed) => {
  const [M, N] = [5, 8]
  const [x, c, dy] = [randn([M, N], 1), randn([N], 2), randn([M, N], 3)]
  const out = await run(({ leaf }) => {
    const tx = leaf([M, N], x, { grad: true })
    const tc = leaf([N], c, { grad: true })
    const seed = leaf([M, N], dy)
    // 2x + c 2x, whose first term passes the seed itself on.
    const body = (v: typeof tx) => add(v, mulColumns(v, tc))
    const doubled = scale(tx, 2)
    const z = recomputed ? checkpoint(body, doubled) : body(doubled)
    // Twice the seed's reader: the sum passes it to both.
    backward(add(z, scale(tx, 1)), seed)
    return { dx: tx.sink!, dc: tc.sink!, seed }
  })
  expect(closeness(out.dx, dy.map((d, i) => d * (3 + 2 * c[i % N])))).toBeLessThan(1) // prettier-ignore
  const dc = Float64Array.from({ length: N }, (_, n) => {
    let s = 0
    for (let m = 0; m < M; m++) s += 2 * x[m * N + n] * dy[m * N + n]
    return s
  })
  expect(closeness(out.dc, dc)).toBeLessThan(1)
  expect(out.seed).toEqual(dy)
})
