/** Norms against torch in float64 (test/golden/layer_ops.py). 1e-4 relative: f32 sums over rows of up to 260. */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/norm.json'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { f32, live, MODES, rowsOf } from '../../../test/modes.ts'
import { ShapeError, type Tensor } from '../../tensor/graph.ts'
import { backward } from '../backward.ts'
import { layerNorm, rmsNorm } from './norm.ts'
import { add, scale } from './pointwise.ts'

function apply(kind: string, x: Tensor, w: Tensor, b: Tensor | null, eps: number): Tensor {
  if (kind.startsWith('layer')) return layerNorm(x, w, b, eps)
  return rmsNorm(x, w, eps, { onePlusWeight: kind === 'rms_one_plus' })
}

describe.each(MODES)('$name', (mode) => {
  test.each(cases)('$kind [$M, $C]: output and gradients', async ({ kind, M, C, eps, x, w, dy, y, dx, dw, ...rest }) => {
    const { b, db } = rest as { b?: number[]; db?: number[] }
    const out = await run(({ leaf }) => {
      const [shape, values, o] = rowsOf(mode, [M, C], x)
      const tx = leaf(shape, values, { ...o, grad: true })
      const tw = leaf([C], f32(w), { grad: true })
      const tb = b ? leaf([C], f32(b), { grad: true }) : null
      const ty = apply(kind, tx, tw, tb, eps)
      backward(ty, leaf(...rowsOf(mode, [M, C], dy)))
      // The scale alone: sums of the same gradient twice.
      backward(apply(kind, leaf(shape, values, o), tw, null, eps), leaf(...rowsOf(mode, [M, C], dy)))
      return { y: ty, dx: tx.sink!, dw: tw.sink!, db: tb?.sink ?? ty }
    }, mode.traits)
    expect(closeness(live(out.y, y), y)).toBeLessThan(1)
    expect(closeness(live(out.dx, dx), dx)).toBeLessThan(1)
    expect(
      closeness(
        out.dw.map((v) => v / 2),
        dw,
      ),
    ).toBeLessThan(1)
    if (db) expect(closeness(out.db, db)).toBeLessThan(1)
  })

  test('adds to the gradient of a residual stream, and makes its own where there is none', async () => {
    const { M, C, eps, x, w, dy, dx } = cases.find((c) => c.kind === 'rms' && c.M === 3)!
    const out = await run(({ leaf }) => {
      const [shape, values, o] = rowsOf(mode, [M, C], x)
      const t = leaf(shape, values, { ...o, grad: true })
      const s = scale(t, 1)
      const seed = leaf(...rowsOf(mode, [M, C], dy))
      backward(add(s, rmsNorm(s, leaf([C], f32(w)), eps)), seed)
      const u = scale(leaf(shape, values, { ...o, grad: true }), 1)
      return { sum: t.sink!, alone: backward(rmsNorm(u, leaf([C], f32(w)), eps), seed, [u])[0]! }
    }, mode.traits)
    expect(
      closeness(
        live(out.sum, dx),
        dx.map((v, i) => v + dy[i]),
      ),
    ).toBeLessThan(1)
    expect(closeness(live(out.alone, dx), dx)).toBeLessThan(1)
  })
})

test('the weight of a frozen norm costs nothing', async () => {
  const calls: number[] = []
  await run(({ g, leaf }) => {
    const x = leaf([4, 8], randn([4, 8], 1), { grad: true })
    const y = rmsNorm(x, leaf([8], randn([8], 2)), 1e-5)
    backward(y, leaf([4, 8], randn([4, 8], 3)))
    calls.push(g.calls.length)
    return { y }
  })
  expect(calls).toEqual([2])
})

test('refuses shapes that it would misread', async () => {
  await run(({ leaf }) => {
    const x = leaf([2, 6], randn([2, 6], 1))
    expect(() => rmsNorm(x, leaf([6], randn([6], 1)), 1e-5)).toThrow(ShapeError)
    expect(() => rmsNorm(leaf([2, 8], randn([2, 8], 1)), leaf([4], randn([4], 1)), 1e-5)).toThrow('rms_norm')
    return { y: scale(x, 1) }
  })
})
