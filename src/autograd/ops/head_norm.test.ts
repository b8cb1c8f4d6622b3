/** Norms of heads against torch in float64 (test/golden/family_ops.py). 1e-4 relative: f32 sums over heads of up to 256 and weights' gradients over up to 140 heads. */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/head_norm.json'
import { closeness, run } from '../../../test/gpu.ts'
import { f32, live, MODES, rowsOf } from '../../../test/modes.ts'
import { ShapeError } from '../../tensor/graph.ts'
import { backward } from '../backward.ts'
import { headNorm } from './head_norm.ts'
import { scale } from './pointwise.ts'

describe.each(MODES)('$name', (mode) => {
  test.each(cases)('$M rows of $H + 2 x $KV heads of $D', async ({ M, H, KV, D, eps, onePlus, x, wq, wk, dy, y, dx, dwq, dwk }) => {
    const width = (H + 2 * KV) * D
    const out = await run(({ leaf }) => {
      const [shape, values, o] = rowsOf(mode, [M, width], x)
      const tx = leaf(shape, values, { ...o, grad: true })
      const [qWeight, kWeight] = [leaf([D], f32(wq), { grad: true }), leaf([D], f32(wk), { grad: true })]
      const norm = { heads: H, kvHeads: KV, headDim: D, eps, onePlusWeight: onePlus }
      // Twice, so that the weights' gradients are added up; scaled, because the gradient that arrives is overwritten.
      for (let i = 0; i < 2; i++) backward(scale(headNorm(tx, { ...norm, qWeight, kWeight }), 0.5), leaf(...rowsOf(mode, [M, width], dy)))
      const frozen = headNorm(leaf(shape, values, o), { ...norm, qWeight: leaf([D], f32(wq)), kWeight: leaf([D], f32(wk)) })
      return { y: frozen, dx: tx.sink!, dwq: qWeight.sink!, dwk: kWeight.sink! }
    }, mode.traits)
    expect(closeness(live(out.y, y), y)).toBeLessThan(1)
    expect(closeness(live(out.dx, dx), dx)).toBeLessThan(1)
    expect(closeness(out.dwq, dwq)).toBeLessThan(1)
    expect(closeness(out.dwk, dwk)).toBeLessThan(1)
  })
})

test('a weight that is not a head long is refused', async () => {
  await expect(
    run(({ leaf }) => {
      const w = leaf([8], f32(new Array<number>(8).fill(1)))
      return {
        y: headNorm(leaf([1, 12], f32(new Array<number>(12).fill(1))), {
          heads: 1,
          kvHeads: 1,
          headDim: 4,
          eps: 1e-6,
          qWeight: w,
          kWeight: w,
        }),
      }
    }),
  ).rejects.toThrow(ShapeError)
})
