/** Cross-entropy against torch in float64 (test/golden/layer_ops.py), with logits of ±300 in a row. 1e-4 relative, 1e-5 absolute (f32 sums over V). */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/cross_entropy.json'
import capped from '../../../test/golden/layer_ops/softcap.json'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { f32, idsOf, live, MODES, rowsOf, u32 } from '../../../test/modes.ts'
import { ScalarInput, ShapeError } from '../../tensor/graph.ts'
import { crossEntropyRows, reduceLoss } from './loss.ts'
import { scale } from './pointwise.ts'

describe.each(MODES)('$name', (mode) => {
  test.each(cases)(
    '[$n, $V]: loss, gradient in place, their sum over micro-batches',
    async ({ n, V, scale: factor, logits, targets, loss, dlogits }) => {
      const out = await run(({ leaf }) => {
        const x = leaf(...rowsOf(mode, [n, V], logits))
        const t = leaf(...idsOf(mode, targets))
        const trained = crossEntropyRows(scale(x, 1), t, x.rows, new ScalarInput(factor))
        const kept = scale(x, 1)
        const measured = crossEntropyRows(kept, t, x.rows, 1, { forwardOnly: true })
        expect(measured.grad).toBeNull()
        const total = leaf([1], f32([1000]))
        reduceLoss(trained.loss, x.rows, total, { overwrite: true })
        reduceLoss(measured.loss, x.rows, total)
        return { loss: trained.loss, grad: trained.grad!, again: measured.loss, kept: scale(kept, 1), total }
      }, mode.traits)
      expect(closeness(live(out.loss, loss), loss)).toBeLessThan(1)
      expect(closeness(live(out.again, loss), loss)).toBeLessThan(1)
      expect(closeness(live(out.grad, dlogits), dlogits)).toBeLessThan(1)
      expect([...live(out.kept, logits)]).toEqual([...f32(logits)])
      expect(closeness(out.total, [2 * loss.reduce((a, b) => a + b, 0)])).toBeLessThan(1)
    },
  )

  test.each(capped)(
    '[$n, $V] with logits capped at $cap (test/golden/family_ops.py)',
    async ({ n, V, cap, scale: factor, logits, targets, loss, dlogits }) => {
      const out = await run(({ leaf }) => {
        const x = leaf(...rowsOf(mode, [n, V], logits))
        const t = leaf(...idsOf(mode, targets))
        const trained = crossEntropyRows(scale(x, 1), t, x.rows, factor, { softcap: cap })
        const measured = crossEntropyRows(scale(x, 1), t, x.rows, 1, { softcap: cap, forwardOnly: true })
        return { loss: trained.loss, grad: trained.grad!, again: measured.loss }
      }, mode.traits)
      expect(closeness(live(out.loss, loss), loss)).toBeLessThan(1)
      expect(closeness(live(out.again, loss), loss)).toBeLessThan(1)
      expect(closeness(live(out.grad, dlogits), dlogits)).toBeLessThan(1)
    },
  )

  test.each([NaN, Infinity, -Infinity])('a capped logit of %d is a non-finite loss', async (bad) => {
    const out = await run(({ leaf }) => {
      const x = randn([2, 12], 4)
      x[5] = bad
      return { loss: crossEntropyRows(scale(leaf([2, 12], x), 1), leaf([2], u32([5, 5])), 2, 1, { softcap: 30 }).loss }
    }, mode.traits)
    expect([...out.loss].map(Number.isFinite)).toEqual([false, true])
  })

  test.each([NaN, Infinity])('a logit of %d is a non-finite loss; -Infinity is a masked one', async (bad) => {
    const out = await run(({ leaf }) => {
      const x = randn([3, 12], 4)
      x[5] = bad
      x[12 + 5] = -Infinity
      const { loss } = crossEntropyRows(scale(leaf([3, 12], x), 1), leaf([3], u32([1, 1, 1])), 3, 1)
      return { loss }
    }, mode.traits)
    expect([...out.loss].map(Number.isFinite)).toEqual([false, true, true])
  })

  test('no rows: the sum is 0', async () => {
    const out = await run(({ leaf }) => {
      const none = new ScalarInput(0)
      const { loss } = crossEntropyRows(scale(leaf([2, 4], randn([2, 4], 1)), 1), leaf([2], u32([0, 0])), none, 1)
      const total = leaf([1], f32([5]))
      reduceLoss(loss, none, total, { overwrite: true })
      return { total }
    }, mode.traits)
    expect(out.total[0]).toBe(0)
  })
})

test('refuses targets that do not match', async () => {
  await run(({ leaf }) => {
    const x = leaf([2, 4], randn([2, 4], 1))
    expect(() => crossEntropyRows(x, leaf([1], u32([0])), 2, 1)).toThrow(ShapeError)
    return { y: scale(x, 1) }
  })
})
