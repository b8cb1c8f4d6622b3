/** @file Cached attention against the op that training uses, which is held to PyTorch: the same rows, prefilled in pieces and decoded one by one.
 * Tolerance 1e-4 relative, 1e-5 absolute: the same sums in another order. */
import { describe, expect, test } from 'vitest'
import { closeness, gpu, randn, run, target } from '../../../test/gpu.ts'
import { Graph, ScalarInput, ShapeError, type TargetTraits } from '../../tensor/graph.ts'
import { fuse } from '../../tensor/fuse.ts'
import { Session, SessionPlan } from '../../tensor/program.ts'
import { Storage } from '../../tensor/storage.ts'
import { attention, ropeAttention } from './attention.ts'
import { appendKv, cachedAttention } from './cached_attention.ts'
import { scale as copy } from './pointwise.ts'
import { rope } from './rope.ts'

interface Case {
  heads: number
  kvHeads: number
  headDim: number
  T: number
  pieces: number[]
  softcap?: number
  window?: number
  traits?: TargetTraits
  /** Shares of the keys. */
  splits?: number
  /** Rotated pairs of a head. */
  pairs?: number
}
const shapes: Case[] = [
  { heads: 2, kvHeads: 1, headDim: 8, T: 9, pieces: [4, 1, 3, 1] },
  { heads: 6, kvHeads: 2, headDim: 64, T: 150, pieces: [64, 1, 64, 20, 1] },
  { heads: 4, kvHeads: 1, headDim: 12, T: 70, pieces: [63, 1, 1, 1, 4] },
  { heads: 8, kvHeads: 1, headDim: 256, T: 3, pieces: [2, 1] },
  { heads: 3, kvHeads: 3, headDim: 80, T: 33, pieces: [33] },
  { heads: 6, kvHeads: 2, headDim: 64, T: 150, pieces: [64, 1, 64, 20, 1], softcap: 2, window: 40 },
  { heads: 2, kvHeads: 1, headDim: 256, T: 70, pieces: [64, 1, 5], softcap: 50, window: 65 },
]

const GPU: TargetTraits = { ...target, software: false, subgroup: 0 }
/** Few new rows beside many keys, on a GPU: the keys are shared out. */
const many = { heads: 6, kvHeads: 2, headDim: 64, T: 520, pieces: Array<number>(130).fill(4), traits: GPU }
const cases = [
  ...shapes,
  { ...many, splits: 4 },
  { ...many, splits: 4, softcap: 2, window: 200 },
  { heads: 4, kvHeads: 1, headDim: 12, T: 270, pieces: [64, 64, 1, 64, 64, 13], traits: GPU, splits: 2 },
  { heads: 2, kvHeads: 1, headDim: 256, T: 260, pieces: [1, 1, 63, 65, 65, 65], traits: GPU, splits: 2 },
  { heads: 6, kvHeads: 2, headDim: 64, T: 70, pieces: [64, 1, 5], traits: GPU, splits: 1, pairs: 32 },
  { heads: 2, kvHeads: 2, headDim: 40, T: 9, pieces: [4, 1, 3, 1], traits: GPU, splits: 1, pairs: 12 },
  { heads: 2, kvHeads: 2, headDim: 40, T: 9, pieces: [4, 1, 3, 1], traits: GPU, splits: 1, pairs: 6 },
]

describe.each<Case>(cases)(
  '$heads/$kvHeads heads of $headDim, pieces $pieces, softcap $softcap, window $window, splits $splits, pairs $pairs',
  (c) => {
    const { T, pieces, traits = target, splits = 1, pairs = 0, ...heads } = c
    test('gives what attention over the whole sequence gives', async () => {
      const { headDim, kvHeads } = heads
      const width = (heads.heads + 2 * kvHeads) * headDim
      const out = heads.heads * headDim
      const scale = 1 / Math.sqrt(headDim)
      const rows = randn([T, width], 7)
      const frequencies = Float32Array.from({ length: pairs }, (_, i) => 10 ** -i)
      const whole = await run(({ leaf }) => {
        const x = leaf([T, width], rows)
        const o = { ...heads, scale, starts: leaf([T], new Uint32Array(T)), batch: 1, tokens: T }
        const positions = leaf([T], Uint32Array.from(Array(T).keys()))
        const rope = { positions, invFreq: leaf([pairs], frequencies), mscale: 1.1 }
        return { out: pairs > 0 ? ropeAttention(copy(x, 1), { ...o, rope }) : attention(x, o) }
      })

      const g = new Graph(traits)
      const most = Math.max(...pieces)
      const storage = (n: number): Storage => new Storage('test', n * 4, 'batch').allocate(gpu)
      const input = storage(most * width)
      const caches = [storage((T + 1) * kvHeads * headDim), storage((T + 1) * kvHeads * headDim)]
      const position = new ScalarInput(0)
      const tokens = new ScalarInput(0)
      const places = storage(most)
      const turns = storage(Math.max(1, pairs))
      turns.write(frequencies)
      const x = g.leaf(input, [most, width], { rows: tokens })
      const qkv =
        pairs > 0
          ? rope(copy(x, 1), {
              positions: g.leaf(places, [most], { dtype: 'u32', rows: tokens }),
              invFreq: g.leaf(turns, [pairs]),
              heads: heads.heads + kvHeads,
              headDim,
              mscale: 1.1,
            })
          : x
      const [k, v] = caches.map((s) => g.leaf(s, [T + 1, kvHeads * headDim]))
      const o = { ...heads, position, tokens, scale }
      appendKv(qkv, k, v, o)
      const result = cachedAttention(qkv, k, v, o)
      fuse(g, [result])
      const names = g.calls.map((call) => call.kernel.name)
      expect(names.includes('combine_attention')).toBe(splits > 1)
      expect(g.calls.find((call) => call.kernel.name === 'cached_attention')?.constants.SPLITS).toBe(splits)
      if (pairs > 0)
        expect(names).toEqual(
          pairs % 4 === 0 ? ['pointwise', 'rope_append', 'cached_attention'] : ['pointwise', 'rope', 'append_kv', 'cached_attention'],
        )
      const session = await Session.create(gpu, new SessionPlan([{ name: 'step', graph: g, keep: [result] }]))
      const got: number[] = []
      for (const n of pieces) {
        tokens.value = n
        // Rows beyond the live ones hold NaN: they must not be looked at.
        input.write(new Float32Array(most * width).fill(NaN))
        input.write(rows.slice(position.value * width, (position.value + n) * width))
        places.write(Uint32Array.from({ length: most }, (_, i) => position.value + i))
        session.programs[0].run()
        got.push(...(await session.programs[0].read(result)).subarray(0, n * out))
        position.value += n
      }
      session.destroy()
      for (const s of [input, places, turns, ...caches]) s.destroy()
      expect(closeness(got, whole.out)).toBeLessThan(1)
    })
  },
)

test('says which shapes it does not accept', () => {
  const g = new Graph(target)
  const leaf = (shape: number[]) => g.leaf(new Storage('t', 65536, 'weights'), shape)
  const o = { heads: 2, kvHeads: 1, headDim: 8, position: new ScalarInput(0), tokens: 1, scale: 1 }
  expect(() => appendKv(leaf([4, 24]), leaf([9, 8]), leaf([9, 8]), o)).toThrow(ShapeError)
  expect(() => appendKv(leaf([4, 32]), leaf([9, 16]), leaf([9, 16]), o)).toThrow(/two caches \[capacity, 8\]/)
  expect(() => cachedAttention(leaf([4, 32]), leaf([9, 8]), leaf([8, 8]), o)).toThrow(ShapeError)
})
