/** Gathers against torch (test/golden/layer_ops.py). A gather copies, so f32 is exact; sums of gradients have at most a few dozen terms. */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/embedding.json'
import { closeness, randn, run, target } from '../../../test/gpu.ts'
import { f32, idsOf, live, MODES, rowsOf, u32 } from '../../../test/modes.ts'
import { testWeight } from '../../../test/weights.ts'
import { weightBytes, WEIGHT_FORMATS } from '../../kernels/weight_formats.ts'
import { derived, ScalarInput, ShapeError, type Tensor } from '../../tensor/graph.ts'
import type { Weight } from '../../tensor/weight.ts'
import { backward } from '../backward.ts'
import { embed, embedWithPrompt, gatherRows } from './embedding.ts'
import { scale } from './pointwise.ts'

const table = (data: Tensor): Weight => ({ format: 'f32', rows: data.shape[0], cols: data.cols, data, scales: null })
const embedCases = cases.filter((c) => c.kind === 'embed')
const promptCases = cases.filter((c) => c.kind === 'prompt').map((c) => ({ ...c, prompt: c.prompt!, dprompt: c.dprompt! }))

describe.each(MODES)('$name', (mode) => {
  test.each(embedCases)(
    'embed [$V, $C]: output, and a gradient that adds up repeated ids',
    async ({ V, C, B, T, ids, table: values, dy, y, dtable, ...rest }) => {
      const factor = (rest as { scale?: number }).scale!
      const out = await run(({ leaf }) => {
        const tids = leaf(...idsOf(mode, ids))
        const t = leaf([V, C], f32(values), { grad: true })
        const ty = embed(table(t), tids, tids.rows, { scale: factor })
        const seed = leaf(...rowsOf(mode, [B * T, C], dy))
        backward(ty, seed)
        // Where no gradient is collected yet it starts from zeros.
        const copy = scale(t, 1)
        return { y: ty, d: t.sink!, alone: backward(embed(table(copy), tids, tids.rows, { scale: factor }), seed, [copy])[0]! }
      }, mode.traits)
      expect(closeness(live(out.y, y), y)).toBeLessThan(1)
      expect(closeness(out.d, dtable)).toBeLessThan(1)
      expect(closeness(out.alone, dtable)).toBeLessThan(1)
    },
  )

  test.each(promptCases)(
    'prompt [$P, $C] before $B x $T: output and both gradients',
    async ({ V, C, B, T, P, ids, table: values, prompt, dy, y, dtable, dprompt }) => {
      const out = await run(({ leaf }) => {
        const [shape, padded] = idsOf(mode, ids)
        const t = leaf([V, C], f32(values), { grad: true })
        const p = leaf([P, C], f32(prompt), { grad: true })
        const tokens = mode.spare ? new ScalarInput(T) : T
        const batch = mode.spare ? new ScalarInput(B) : B
        const ty = embedWithPrompt(table(t), leaf(shape, padded), p, { batch, tokens, maxBatch: B + (mode.spare ? 1 : 0) })
        const [, seed] = rowsOf({ ...mode, spare: ty.shape[0] - B * (P + T) }, [B * (P + T), C], dy)
        backward(ty, leaf(ty.shape, seed, { rows: ty.rows }))
        return { y: ty, d: t.sink!, dp: p.sink! }
      }, mode.traits)
      expect(closeness(live(out.y, y), y)).toBeLessThan(1)
      expect(closeness(out.d, dtable)).toBeLessThan(1)
      expect(closeness(out.dp, dprompt)).toBeLessThan(1)
    },
  )
})

test.each(WEIGHT_FORMATS)(
  'a table of %s is read exactly as the reference decodes it, in pieces where it is larger than a binding',
  async (format) => {
    const [rows, cols] = [700, 256]
    const w = testWeight(format, rows, cols, 5)
    const ids = [0, 255, 256, 257, 511, 512, 699, 3, 699]
    // NF4 is for linear layers: its scales begin with a code that a piece would lack.
    const limit = format === 'nf4' ? target.maxBindingSize : 300 * cols
    let calls = 0
    const out = await run(
      ({ g, leaf }) => {
        const data = leaf(format === 'f32' ? [rows, cols] : [w.data.length], w.data)
        const weight: Weight = { format, rows, cols, data, scales: w.scales && leaf([w.scales.length], w.scales) }
        const y = embed(weight, leaf([ids.length], u32(ids)), ids.length)
        calls = g.calls.length
        return { y }
      },
      { ...target, maxBindingSize: limit },
    )
    expect(calls).toBe(format === 'nf4' ? 1 : weightBytes(format, 256, cols).data * 2 <= limit ? 2 : 3)
    const expected = ids.flatMap((id) => [...w.values.subarray(id * cols, (id + 1) * cols)])
    // Products of a scale and a whole number are exact in f32; NF4's scales are a product and a sum, which a driver may round once or twice.
    if (format === 'nf4') expect(closeness(out.y, expected, 3e-7, 1e-12)).toBeLessThan(1)
    else expect(out.y.findIndex((v, i) => v !== expected[i])).toBe(-1)
  },
)

test.each(['q8_0', 'q4_1', 'q5_0', 'q6_k'] as const)('scales of %s below the normal numbers of f16 are not lost', async (format) => {
  const [rows, cols] = [4, 256]
  // Scales of about 1e-6: weights of a thousandth have such in 8-bit blocks.
  const w = testWeight(format, rows, cols, 5, { q8_0: 1e-4, q4_1: 2e-5, q5_0: 2e-5, q6_k: 2e-3 }[format])
  const out = await run(({ leaf }) => {
    const weight: Weight = { format, rows, cols, data: leaf([w.data.length], w.data), scales: leaf([w.scales!.length], w.scales!) }
    return { y: embed(weight, leaf([rows], u32([0, 1, 2, 3])), rows) }
  })
  expect(Math.max(...w.values.map(Math.abs))).toBeGreaterThan(1e-6)
  expect(out.y.findIndex((v, i) => v !== w.values[i])).toBe(-1)
})

test('the gradient of a table larger than a binding', async () => {
  const [rows, cols] = [700, 4]
  const ids = [0, 255, 256, 699, 256]
  const dy = randn([5, 4], 3)
  const out = await run(
    ({ leaf }) => {
      const t = leaf([rows, cols], randn([rows, cols], 1), { grad: true })
      backward(embed(table(t), leaf([5], u32(ids)), 5), leaf([5, 4], dy))
      return { d: t.sink! }
    },
    { ...target, maxBindingSize: 4096 },
  )
  const expected = new Float64Array(rows * cols)
  ids.forEach((id, i) => {
    for (let c = 0; c < cols; c++) expected[id * cols + c] += dy[i * cols + c]
  })
  expect(closeness(out.d, expected)).toBeLessThan(1)
})

describe.each(MODES.slice(0, 2))('rows of activations, $name', (mode) => {
  test.each([
    { M: 1, C: 4, index: [0] },
    { M: 9, C: 12, index: [7, 0, 3] },
    { M: 5, C: 8, index: [] },
  ])('$index of [$M, $C]', async ({ M, C, index }) => {
    const [x, dy] = [randn([M, C], 1), randn([3, C], 2)]
    const out = await run(({ leaf }) => {
      const t = leaf(...rowsOf(mode, [M, C], [...x]))
      const grads = leaf(t.shape, new Float32Array(t.shape[0] * C).fill(0.5), { rows: t.rows, grad: true })
      const count = new ScalarInput(index.length)
      const inverse = new Uint32Array(t.shape[0]).fill(0xffffffff)
      index.forEach((m, i) => (inverse[m] = i))
      const ti = leaf([3], u32([...index, 0, 0, 0].slice(0, 3)))
      const tv = leaf([inverse.length], inverse)
      const y = gatherRows(t, ti, count, tv)
      const seed = leaf([3, C], dy, { rows: derived(() => count.value) })
      backward(gatherRows(grads, ti, count, tv), seed)
      backward(gatherRows(grads, ti, count, tv), seed)
      const copy = scale(grads, 1)
      return { y: scale(y, 1), twice: grads.sink!, alone: backward(gatherRows(copy, ti, count, tv), seed, [copy])[0]! }
    }, mode.traits)
    const expected = new Float64Array(M * C)
    index.forEach((m, i) => {
      for (let c = 0; c < C; c++) expected[m * C + c] = dy[i * C + c]!
    })
    const chosen = index.flatMap((m) => [...x.subarray(m * C, (m + 1) * C)])
    expect(closeness(out.y.subarray(0, chosen.length), chosen, 0, 1e-7)).toBeLessThan(1)
    expect(closeness(live(out.alone, expected), expected, 0, 1e-7)).toBeLessThan(1)
    expect(
      closeness(
        live(out.twice, expected),
        expected.map((v) => 2 * v),
        1e-6,
        1e-7,
      ),
    ).toBeLessThan(1)
  })
})

test('ids outside the table give zeros, and wrong kinds are refused', async () => {
  const out = await run(({ leaf }) => {
    const t = leaf([3, 4], randn([3, 4], 1))
    expect(() => embed(table(t), leaf([2], f32([0, 1])), 2)).toThrow(ShapeError)
    expect(() => embed({ ...table(t), format: 'q4_1' }, leaf([2], u32([0, 1])), 2)).toThrow('scales')
    return { y: embed(table(t), leaf([2], u32([3, 0xffffffff])), 2) }
  })
  expect([...out.y]).toEqual(new Array(8).fill(0))
})

describe('learned positions and padding', () => {
  test('an offset goes before the first row, and an id that is skipped learns nothing', async () => {
    const [V, C] = [7, 8]
    const table = randn([V, C], 5)
    const dy = randn([4, C], 6)
    const ids = Uint32Array.from([0, 3, 3, 4])
    const out = await run(({ leaf }) => {
      const data = leaf([V, C], table, { grad: true })
      const weight: Weight = { format: 'f32', rows: V, cols: C, data, scales: null }
      const y = embed(weight, leaf([4], ids), 4, { offset: 2, skip: 3 })
      backward(y, leaf([4, C], dy))
      return { y, grad: data.sink! }
    })
    const row = (a: Float32Array, i: number): number[] => [...a.subarray(i * C, (i + 1) * C)]
    for (const [i, id] of ids.entries()) expect(row(out.y, i)).toEqual(row(table, id + 2))
    for (let r = 0; r < V; r++) {
      const from = [...ids].findIndex((id) => id + 2 === r && id !== 3)
      expect(row(out.grad, r)).toEqual(from < 0 ? Array<number>(C).fill(0) : row(dy, from))
    }
  })
})
