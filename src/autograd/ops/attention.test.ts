/** @file Attention and its gradients against PyTorch's scaled_dot_product_attention (test/golden/attention.py, float64 on the same float32 inputs).
 * Tolerance: 1e-4 relative, 2e-5 absolute. Scores are float32 dot products of up to 256 terms, and an exponential turns their absolute error
 * (about 1e-6 at scores of 10) into a relative one; sums over keys cancel, hence the absolute part. */
import { describe, expect, test } from 'vitest'
import { goldenJson } from '../../../test/files.ts'
import { closeness, randn, run } from '../../../test/gpu.ts'
import { backward } from '../backward.ts'
import { attention } from './attention.ts'

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
  starts: number[]
  out: number[]
  dqkv: number[]
}
const { cases } = goldenJson('attention.json') as { cases: Case[] }
const every = (v: Float32Array, stride: number): number[] => Array.from({ length: Math.ceil(v.length / stride) }, (_, i) => v[i * stride]!)

describe.each(cases)('$batch x $tokens, $heads/$kvHeads heads of $headDim, $kind', (c) => {
  test('output and gradients are those of PyTorch', async () => {
    const m = c.batch * c.tokens
    const width = (c.heads + 2 * c.kvHeads) * c.headDim
    const got = await run(({ leaf }) => {
      const qkv = leaf([m, width], randn([m, width], c.seed, c.std), { grad: true })
      const out = attention(qkv, { ...c, scale: 1 / Math.sqrt(c.headDim), starts: leaf([m], Uint32Array.from(c.starts)) })
      backward(out, leaf([m, c.heads * c.headDim], randn([m, c.heads * c.headDim], c.seed + 1)))
      return { out, dqkv: qkv.sink! }
    })
    expect(closeness(every(got.out, c.stride), c.out, 1e-4, 2e-5)).toBeLessThan(1)
    expect(closeness(every(got.dqkv, c.stride), c.dqkv, 1e-4, 2e-5 * c.std)).toBeLessThan(1)
  })
})
