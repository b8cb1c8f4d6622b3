import { expect, test } from 'vitest'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { backward } from '../backward.ts'
import { add, scale, silu } from './pointwise.ts'

test('a composition of element-wise ops has the gradient of its formula', async () => {
  const x = randn([5, 7], 1)
  const seed = randn([5, 7], 2)
  const out = await run(({ leaf }) => {
    const t = leaf([5, 7], x, { grad: true })
    const y = add(silu(t), scale(t, 0.5))
    backward(y, leaf([5, 7], seed))
    return { y, dx: t.sink! }
  })
  const sig = (v: number) => 1 / (1 + Math.exp(-v))
  expect(
    closeness(
      out.y,
      x.map((v) => v * sig(v) + 0.5 * v),
    ),
  ).toBeLessThan(1)
  expect(
    closeness(
      out.dx,
      x.map((v, i) => seed[i] * (sig(v) * (1 + v * (1 - sig(v))) + 0.5)),
    ),
  ).toBeLessThan(1)
})
