/** Activations against torch in float64 (test/golden/layer_ops.py). erf is good to 1.5e-7 absolute, times inputs of up to 30. */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/activation.json'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { live, MODES, rowsOf } from '../../../test/modes.ts'
import { ShapeError, type Tensor } from '../../tensor/graph.ts'
import { backward } from '../backward.ts'
import { gatedGelu, gelu, relu, swiglu } from './activation.ts'
import { scale } from './pointwise.ts'

const OPS: Record<string, (x: Tensor) => Tensor> = {
  swiglu,
  geglu_tanh: (x) => gatedGelu(x, 'tanh'),
  geglu_erf: (x) => gatedGelu(x, 'erf'),
  gelu_tanh: (x) => gelu(x, 'tanh'),
  gelu_erf: (x) => gelu(x, 'erf'),
}

describe.each(MODES.slice(0, 2))('$name', (mode) => {
  test.each(cases)('$kind [$M, $W]: output and gradient, alone and added', async ({ kind, M, W, x, dy, y, dx }) => {
    const out = await run(({ leaf }) => {
      const [shape, values, o] = rowsOf(mode, [M, W], x)
      const t = leaf(shape, values, { ...o, grad: true })
      const ty = OPS[kind](t)
      const seed = leaf(...rowsOf(mode, [M, y.length / M], dy))
      backward(ty, seed)
      const u = scale(t, 1)
      return { y: ty, added: t.sink!, alone: backward(OPS[kind](u), seed, [u])[0]! }
    }, mode.traits)
    expect(closeness(live(out.y, y), y)).toBeLessThan(1)
    expect(closeness(live(out.added, dx), dx)).toBeLessThan(1)
    expect(closeness(live(out.alone, dx), dx)).toBeLessThan(1)
  })
})

test('NaN stays NaN', async () => {
  const out = await run(({ leaf }) => {
    const x = leaf([1, 8], new Float32Array(8).fill(NaN))
    return { a: swiglu(x), b: gelu(x, 'tanh'), c: gelu(x, 'erf'), d: relu(x) }
  })
  for (const v of Object.values(out)) expect([...v].every(Number.isNaN)).toBe(true)
})

test('relu and its derivative, which is 0 at 0', async () => {
  const out = await run(({ leaf }) => {
    const x = leaf([2, 4], Float32Array.from([-2, -0, 0, 1e-30, 3, -1e30, 1e30, 0.5]), { grad: true })
    const y = relu(x)
    backward(y, leaf([2, 4], new Float32Array(8).fill(2)))
    return { y, dx: x.sink! }
  })
  expect([...out.y].map((v) => v + 0)).toEqual([0, 0, 0, 1e-30, 3, 0, 1e30, 0.5].map(Math.fround))
  expect([...out.dx]).toEqual([0, 0, 0, 2, 2, 0, 2, 2])
})

test('refuses halves that are not whole vec4s', async () => {
  await run(({ leaf }) => {
    expect(() => swiglu(leaf([2, 12], randn([2, 12], 1)))).toThrow(ShapeError)
    return { y: scale(leaf([1, 4], randn([1, 4], 1)), 1) }
  })
})
