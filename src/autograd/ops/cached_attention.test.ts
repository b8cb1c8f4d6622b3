/** @file Cached attention against the op that training uses, which is held to PyTorch: the same rows, prefilled in pieces and decoded one by one.
 * Tolerance 1e-4 relative, 1e-5 absolute: the same sums in another order. */
import { describe, expect, test } from 'vitest'
import { closeness, gpu, randn, run, target } from '../../../test/gpu.ts'
import { Graph, ScalarInput, ShapeError } from '../../tensor/graph.ts'
import { Session, SessionPlan } from '../../tensor/program.ts'
import { Storage } from '../../tensor/storage.ts'
import { attention } from './attention.ts'
import { appendKv, cachedAttention } from './cached_attention.ts'

const shapes = [
  { heads: 2, kvHeads: 1, headDim: 8, T: 9, pieces: [4, 1, 3, 1] },
  { heads: 6, kvHeads: 2, headDim: 64, T: 150, pieces: [64, 1, 64, 20, 1] },
  { heads: 4, kvHeads: 1, headDim: 12, T: 70, pieces: [63, 1, 1, 1, 4] },
  { heads: 8, kvHeads: 1, headDim: 256, T: 3, pieces: [2, 1] },
  { heads: 3, kvHeads: 3, headDim: 80, T: 33, pieces: [33] },
  { heads: 6, kvHeads: 2, headDim: 64, T: 150, pieces: [64, 1, 64, 20, 1], softcap: 2, window: 40 },
  { heads: 2, kvHeads: 1, headDim: 256, T: 70, pieces: [64, 1, 5], softcap: 50, window: 65 },
]

describe.each(shapes)('$heads/$kvHeads heads of $headDim, pieces $pieces, softcap $softcap, window $window', ({ T, pieces, ...heads }) => {
  test('gives what attention over the whole sequence gives', async () => {
    const { headDim, kvHeads } = heads
    const width = (heads.heads + 2 * kvHeads) * headDim
    const out = heads.heads * headDim
    const scale = 1 / Math.sqrt(headDim)
    const rows = randn([T, width], 7)
    const whole = await run(({ leaf }) => ({
      out: attention(leaf([T, width], rows), { ...heads, scale, starts: leaf([T], new Uint32Array(T)), batch: 1, tokens: T }),
    }))

    const g = new Graph(target)
    const most = Math.max(...pieces)
    const storage = (n: number): Storage => new Storage('test', n * 4, 'batch').allocate(gpu)
    const input = storage(most * width)
    const caches = [storage((T + 1) * kvHeads * headDim), storage((T + 1) * kvHeads * headDim)]
    const position = new ScalarInput(0)
    const tokens = new ScalarInput(0)
    const qkv = g.leaf(input, [most, width], { rows: tokens })
    const [k, v] = caches.map((s) => g.leaf(s, [T + 1, kvHeads * headDim]))
    const o = { ...heads, position, tokens, scale }
    appendKv(qkv, k, v, o)
    const result = cachedAttention(qkv, k, v, o)
    const session = await Session.create(gpu, new SessionPlan([{ name: 'step', graph: g, keep: [result] }]))
    const got: number[] = []
    for (const n of pieces) {
      tokens.value = n
      // Rows beyond the live ones hold NaN: they must not be looked at.
      input.write(new Float32Array(most * width).fill(NaN))
      input.write(rows.slice(position.value * width, (position.value + n) * width))
      session.programs[0].run()
      got.push(...(await session.programs[0].read(result)).subarray(0, n * out))
      position.value += n
    }
    session.destroy()
    for (const s of [input, ...caches]) s.destroy()
    expect(closeness(got, whole.out)).toBeLessThan(1)
  })
})

test('says which shapes it does not accept', () => {
  const g = new Graph(target)
  const leaf = (shape: number[]) => g.leaf(new Storage('t', 65536, 'weights'), shape)
  const o = { heads: 2, kvHeads: 1, headDim: 8, position: new ScalarInput(0), tokens: 1, scale: 1 }
  expect(() => appendKv(leaf([4, 24]), leaf([9, 8]), leaf([9, 8]), o)).toThrow(ShapeError)
  expect(() => appendKv(leaf([4, 32]), leaf([9, 16]), leaf([9, 16]), o)).toThrow(/two caches \[capacity, 8\]/)
  expect(() => cachedAttention(leaf([4, 32]), leaf([9, 8]), leaf([8, 8]), o)).toThrow(ShapeError)
})
