/** Cached attention, read in uneven pieces, equals attention over the whole sequence. Tolerance: float32 sums in another order. */
import { expect, test } from 'vitest'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { attention } from './attention.ts'
import { appendKv, cachedAttention } from './cached_attention.ts'
import { sliceColumns } from './columns.ts'

test.each([
  [4, 2, 8],
  [3, 1, 64],
  [2, 2, 96],
])('%i heads over %i of %i', async (heads, kvHeads, headDim) => {
  const T = 150
  const W = (heads + 2 * kvHeads) * headDim
  const qkv = randn([T, W], 1)
  const o = { heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) }
  const out = await run(({ leaf }) => {
    const [k, v] = [2, 3].map(() => leaf([T, kvHeads * headDim], new Float32Array(T * kvHeads * headDim)))
    const pieces: [string, ReturnType<typeof cachedAttention>][] = []
    for (const [from, to] of [
      [0, 70],
      [70, 71],
      [71, 150],
    ] as const) {
      const part = leaf([to - from, W], qkv.slice(from * W, to * W))
      const at = { ...o, position: from, tokens: to - from }
      appendKv(part, k!, v!, at)
      pieces.push([`from ${from}`, cachedAttention(part, k!, v!, at)])
    }
    const whole = attention(leaf([T, W], qkv), { ...o, starts: leaf([T], new Uint32Array(T)), batch: 1, tokens: T })
    return { ...Object.fromEntries(pieces), whole: sliceColumns(whole, 0, heads * headDim) } as Record<string, ReturnType<typeof attention>>
  })
  const joined = ['from 0', 'from 70', 'from 71'].flatMap((name) => [...out[name]!])
  expect(closeness(joined, out.whole!)).toBeLessThan(1)
})
