/** @file Attention and its gradients against PyTorch's scaled_dot_product_attention (test/golden/attention.py, float64 on the same float32 inputs).
 * Tolerance: 1e-4 relative, 2e-5 absolute. Scores are float32 dot products of up to 256 terms, and an exponential turns their absolute error
 * (about 1e-6 at scores of 10) into a relative one; sums over keys cancel, hence the absolute part. */
import { describe, expect, test } from 'vitest'
import { goldenJson } from '../../../test/files.ts'
import { type Build, closeness, randn, run, target } from '../../../test/gpu.ts'
import { Graph, ScalarInput, ShapeError, type TargetTraits, type Tensor } from '../../tensor/graph.ts'
import { SessionPlan } from '../../tensor/program.ts'
import { Storage } from '../../tensor/storage.ts'
import { backward } from '../backward.ts'
import { attention, ropeAttention } from './attention.ts'
import { scale } from './pointwise.ts'

interface Case {
  batch: number
  tokens: number
  heads: number
  kvHeads: number
  headDim: number
  kind: string
  std: number
  seed: number
  stride: number
  /** null: all 0. */
  starts: number[] | null
  out: number[]
  dqkv: number[]
  softcap?: number
  window?: number
  scale?: number
  /** Token t stands at position 3 t + 1. */
  invFreq?: number[]
  mscale?: number
}
const { cases } = goldenJson('attention.json') as { cases: Case[] }
const every = (v: Float32Array, stride: number): number[] => Array.from({ length: Math.ceil(v.length / stride) }, (_, i) => v[i * stride])

const FAMILIES: { family: string; traits: TargetTraits }[] = [
  { family: 'chosen for this device', traits: target },
  { family: 'without subgroups', traits: { ...target, software: false, subgroup: 0 } },
]

interface Layout {
  heads: number
  kvHeads: number
  headDim: number
  batch: number
  tokens: number
  scale?: number
  softcap?: number
  window?: number
  invFreq?: readonly number[]
  mscale?: number
}
/** Output and input gradient for rows laid out as `l`, planned for `planned` rows (NaN beyond the live ones). */
function trace(
  { leaf }: Build,
  l: Layout,
  values: { qkv: ArrayLike<number>; dout: ArrayLike<number>; starts: ArrayLike<number> },
  planned?: number,
) {
  const m = planned ?? l.batch * l.tokens
  const isLive = planned !== undefined
  const of = (cols: number, data: ArrayLike<number>): Float32Array<ArrayBuffer> => {
    const all = new Float32Array(m * cols).fill(NaN)
    all.set(data)
    return all
  }
  const [width, out] = [(l.heads + 2 * l.kvHeads) * l.headDim, l.heads * l.headDim]
  const rows = isLive ? { rows: new ScalarInput(l.batch * l.tokens) } : {}
  const starts = new Uint32Array(m)
  starts.set(values.starts)
  const qkv = leaf([m, width], of(width, values.qkv), { grad: true, ...rows })
  const [batch, tokens] = isLive ? [new ScalarInput(l.batch), new ScalarInput(l.tokens)] : [l.batch, l.tokens]
  const o = { ...l, scale: l.scale ?? 1 / Math.sqrt(l.headDim), starts: leaf([m], starts), batch, tokens }
  const y = l.invFreq
    ? ropeAttention(scale(qkv, 1), {
        ...o,
        rope: {
          positions: leaf(
            [m],
            Uint32Array.from({ length: m }, (_, i) => 3 * (i % l.tokens) + 1),
          ),
          invFreq: leaf([l.invFreq.length], Float32Array.from(l.invFreq)),
          mscale: l.mscale,
        },
      })
    : attention(qkv, o)
  backward(y, leaf([m, out], of(out, values.dout), rows))
  return { out: y, dqkv: qkv.sink! } satisfies Record<string, Tensor>
}
const random = (l: Layout, seed = 5) => {
  const m = l.batch * l.tokens
  return {
    qkv: randn([m, (l.heads + 2 * l.kvHeads) * l.headDim], seed),
    dout: randn([m, l.heads * l.headDim], seed + 1),
    starts: new Uint32Array(m),
  }
}

describe.each(FAMILIES)('kernels $family', ({ traits }) => {
  test.each(cases)(
    '$batch x $tokens, $heads/$kvHeads heads of $headDim, $kind, softcap $softcap, window $window, rope $mscale: PyTorch',
    async (c) => {
      const m = c.batch * c.tokens
      const values = {
        qkv: randn([m, (c.heads + 2 * c.kvHeads) * c.headDim], c.seed, c.std),
        dout: randn([m, c.heads * c.headDim], c.seed + 1),
        starts: c.starts ?? [],
      }
      const got = await run((b) => trace(b, c, values), traits)
      expect(closeness(every(got.out, c.stride), c.out, 1e-4, 2e-5)).toBeLessThan(1)
      expect(closeness(every(got.dqkv, c.stride), c.dqkv, 1e-4, 2e-5 * c.std)).toBeLessThan(1)
    },
  )

  test('fewer tokens and sequences than planned: the same, and nothing beyond is read or written', async () => {
    const l = { heads: 3, kvHeads: 1, headDim: 16, batch: 2, tokens: 19 }
    const values = random(l)
    const exact = await run((b) => trace(b, l, values), traits)
    const live = await run((b) => trace(b, l, values, 4 * 33), traits)
    expect(closeness(live.out.subarray(0, exact.out.length), exact.out, 0, 1e-7)).toBeLessThan(1)
    expect(closeness(live.dqkv.subarray(0, exact.dqkv.length), exact.dqkv, 0, 1e-7)).toBeLessThan(1)
    expect(live.dqkv.subarray(exact.dqkv.length).every((v) => v === 0)).toBe(true)
  })

  test('packed segments are the separate sequences', async () => {
    const sizes = [23, 1, 40, 6]
    const l = { heads: 2, kvHeads: 1, headDim: 16, batch: 1, tokens: 70 }
    const values = random(l)
    const starts = sizes.flatMap((n, i) => Array<number>(n).fill(sizes.slice(0, i).reduce((a, b) => a + b, 0)))
    const packed = await run((b) => trace(b, l, { ...values, starts }), traits)
    let at = 0
    for (const tokens of sizes) {
      const part = (v: Float32Array, cols: number) => v.subarray(at * cols, (at + tokens) * cols)
      const [width, out] = [64, 32]
      const alone = await run(
        (b) => trace(b, { ...l, tokens }, { qkv: part(values.qkv, width), dout: part(values.dout, out), starts: [] }),
        traits,
      )
      expect(closeness(part(packed.out, out), alone.out, 1e-5, 1e-6)).toBeLessThan(1)
      expect(closeness(part(packed.dqkv, width), alone.dqkv, 1e-5, 1e-6)).toBeLessThan(1)
      at += tokens
    }
  })

  test('scores in the hundreds, and a query that sees nothing, give finite numbers', async () => {
    const l = { heads: 2, kvHeads: 1, headDim: 16, batch: 1, tokens: 40 }
    const values = random(l)
    const starts = new Uint32Array(40)
    starts[39] = 40
    const got = await run((b) => trace(b, l, { ...values, qkv: values.qkv.map((v) => v * 20), starts }), traits)
    expect([...got.out, ...got.dqkv].every(Number.isFinite)).toBe(true)
    // Nothing seen: zero, and no gradient to its query.
    expect(got.out.subarray(39 * 32).every((v) => v === 0)).toBe(true)
    expect(got.dqkv.subarray(39 * 64, 39 * 64 + 32).every((v) => v === 0)).toBe(true)
  })
})

test.each([
  { name: 'causal' },
  { name: 'window of 70', window: 70 },
  { name: 'softcap, rope', softcap: 3, invFreq: [1, 0.1, 0.01, 0.001] },
  { name: 'packed, window of 70', window: 70, lengths: [1, 250, 3, 64, 200, 82] },
])('the families agree on one sequence of 600 tokens: $name', async ({ name: _, lengths = [600], ...scores }) => {
  const l = { heads: 2, kvHeads: 1, headDim: 16, batch: 1, tokens: 600, ...scores }
  const starts = lengths.flatMap((n, i) => Array<number>(n).fill(lengths.slice(0, i).reduce((a, b) => a + b, 0)))
  const values = { ...random(l), starts }
  const [a, b] = [await run((g) => trace(g, l, values), FAMILIES[0].traits), await run((g) => trace(g, l, values), FAMILIES[1].traits)]
  expect(closeness(a.out, b.out)).toBeLessThan(1)
  expect(closeness(a.dqkv, b.dqkv)).toBeLessThan(1)
})

test('memory is linear in the length: 1 x 4096 plans less than a quarter of one T x T matrix', () => {
  const bytes = (tokens: number): number => {
    const g = new Graph(target)
    const leaf = (shape: number[]) =>
      g.leaf(new Storage('t', 4 * shape.reduce((a, b) => a * b), 'weights'), shape, { needsGrad: shape.length > 1 })
    const qkv = g.node('x', [tokens, 192], [leaf([tokens, 192])], () => [null])
    const y = attention(qkv, { heads: 1, kvHeads: 1, headDim: 64, scale: 1, starts: leaf([tokens]), batch: 1, tokens })
    backward(y, leaf([tokens, 64]), [qkv])
    return new SessionPlan([{ name: 't', graph: g }]).bytes.activations
  }
  expect(bytes(4096)).toBeLessThan(4096 * 4096)
  expect(bytes(4096)).toBeLessThanOrEqual(2 * bytes(2048))
})

test('the gradient by the unrotated rows is two dispatches, and rotated rows are the only ones kept', () => {
  const count = (pairs: number): string[] => {
    const g = new Graph(target)
    const leaf = (shape: number[], needsGrad = false) =>
      g.leaf(new Storage('t', 4 * shape.reduce((a, b) => a * b), 'weights'), shape, { needsGrad })
    const qkv = g.node('x', [32, 192], [leaf([32, 192], true)], () => [null])
    const rope = { positions: leaf([32]), invFreq: leaf([pairs]) }
    const y = ropeAttention(qkv, { heads: 1, kvHeads: 1, headDim: 64, scale: 1, starts: leaf([32]), batch: 1, tokens: 32, rope })
    const [dqkv] = backward(y, leaf([32, 64]), [qkv])
    expect(dqkv?.shape).toEqual([32, 192])
    expect(g.calls[0].buffers.x.alias).toBe(qkv)
    return g.calls.map((c) => c.kernel.name.replace(/_(sgk|tile)$/, ''))
  }
  expect(count(32)).toEqual(['rope', 'attention_forward', 'attention_dq', 'attention_dkv'])
  // Pairs that do not come in fours are turned back by a dispatch of their own.
  expect(count(6)).toEqual(['rope', 'attention_forward', 'attention_dq', 'attention_dkv', 'rope'])
})

test('says which shapes it does not accept', () => {
  const g = new Graph(target)
  const leaf = (shape: number[]) => g.leaf(new Storage('t', 65536, 'weights'), shape)
  const o = { heads: 4, kvHeads: 2, headDim: 8, scale: 1, starts: leaf([6]), batch: 2, tokens: 3 }
  expect(() => attention(leaf([6, 60]), o)).toThrow(/\[M, 64\], queries, keys and values of 4 \+ 2 x 2 heads of 8/)
  expect(() => attention(leaf([6, 64]), { ...o, kvHeads: 3 })).toThrow(ShapeError)
  expect(() => attention(leaf([6, 64]), { ...o, headDim: 6 })).toThrow(/multiple of 4/)
  expect(() => attention(leaf([5, 64]), o)).toThrow(/a start for each of 5 rows/)
  expect(() => attention(leaf([6, 64]), { ...o, window: 0 })).toThrow(/a window of at least one key/)
  expect(() => attention(leaf([6, 64]), { ...o, softcap: -1 })).toThrow(/a positive softcap/)
  expect(() => ropeAttention(leaf([6, 64]), { ...o, rope: { positions: leaf([6]), invFreq: leaf([5]) } })).toThrow(/at most 4 frequencies/)
  expect(() => ropeAttention(leaf([6, 64]), { ...o, rope: { positions: leaf([5]), invFreq: leaf([4]) } })).toThrow(
    /a position for each of 6/,
  )
})
