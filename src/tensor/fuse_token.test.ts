/** @file A decoder layer over a few new tokens with cached keys and values: how few dispatches it takes, and that they give what each op alone gives.
 * Tolerance 2e-6 of the largest value: float32 sums of up to 96 terms in another order. With packed products 2e-2: a norm that is not written apart is
 * multiplied before the row is rounded to bytes, whose steps are 1/127 of the largest of eight. */
import { describe, expect, test } from 'vitest'
import { gpu, randn, relative, run, target } from '../../test/gpu.ts'
import { testWeight } from '../../test/weights.ts'
import { swiglu } from '../autograd/ops/activation.ts'
import { appendKv, cachedAttention } from '../autograd/ops/cached_attention.ts'
import { linear, lowRankLinear } from '../autograd/ops/linear.ts'
import { rmsNorm } from '../autograd/ops/norm.ts'
import { rope } from '../autograd/ops/rope.ts'
import type { WeightFormat } from '../kernels/weight_formats.ts'
import type { Weight } from './weight.ts'
import { fuse } from './fuse.ts'
import { ScalarInput, type TargetTraits, type Tensor } from './graph.ts'

const [C, F, heads, kv, hd, slots] = [64, 96, 4, 2, 16, 9]
const GPU: TargetTraits = { ...target, software: false, subgroup: 0, storageBuffers: 10 }

interface Layer {
  readonly format: WeightFormat
  readonly rows: number
  readonly adapted?: boolean
  readonly onePlus?: boolean
}
/** Names of the calls, and what the layer leaves: its output, and both caches. Row 2 of the caches is the first new one; one more row is planned than is live. */
async function layer(traits: TargetTraits, { format, rows, adapted = false, onePlus = false }: Layer, join: boolean) {
  const planned = rows === 1 ? 1 : rows + 1
  const live = rows === 1 ? 1 : new ScalarInput(rows)
  const calls: { name: string; flags: readonly string[] }[] = []
  const out = await run(({ g, leaf }) => {
    const weight = (N: number, K: number, seed: number): Weight => {
      const w = testWeight(format, N, K, seed, 0.3)
      const data = leaf(format === 'f32' ? [N, K] : [w.data.length], w.data)
      return { format, rows: N, cols: K, data, scales: w.scales && leaf([w.scales.length], w.scales) }
    }
    const product = (x: Tensor, N: number, seed: number, residual: Tensor | null, segments: readonly number[] = []): Tensor => {
      const w = weight(N, x.cols, seed)
      if (!adapted) return linear(x, w, { residual })
      const S = segments.length + 1
      const A = leaf([S * 8, x.cols], randn([S * 8, x.cols], seed + 50, 0.3))
      return lowRankLinear(x, w, A, leaf([N, 8], randn([N, 8], seed + 60, 0.3)), { scale: 0.5, segments, residual })
    }
    const norm = (x: Tensor, seed: number): Tensor => rmsNorm(x, leaf([C], randn([C], seed)), 1e-5, { onePlusWeight: onePlus })
    const cache = (seed: number): Tensor => leaf([slots, kv * hd], randn([slots, kv * hd], seed))
    const x = leaf([planned, C], randn([planned, C], 1), { rows: live })
    const qkv = rope(product(norm(x, 2), (heads + 2 * kv) * hd, 10, null, [heads * hd, (heads + kv) * hd]), {
      positions: leaf(
        [planned],
        Uint32Array.from({ length: planned }, (_, i) => 2 + i),
      ),
      invFreq: leaf(
        [hd / 2],
        Float32Array.from({ length: hd / 2 }, (_, i) => 3 ** -i),
      ),
      ...{ heads: heads + kv, headDim: hd, mscale: 1.25 },
    })
    const [k, v] = [cache(3), cache(4)]
    const o = { heads, kvHeads: kv, headDim: hd, position: new ScalarInput(2), tokens: live, scale: 0.25 }
    appendKv(qkv, k, v, o)
    const mixed = product(cachedAttention(qkv, k, v, o), C, 11, x)
    const y = product(swiglu(product(norm(mixed, 5), 2 * F, 12, null, [F])), C, 13, mixed)
    if (join) fuse(g, [y])
    calls.push(...g.calls.map((c) => ({ name: c.kernel.name, flags: c.flags })))
    return { y, k, v }
  }, traits)
  return { calls, out: { ...out, y: out.y.subarray(0, rows * C) } }
}

const VEC = ['matmul_vec', 'cached_attention', 'matmul_vec', 'matmul_vec', 'matmul_vec'] // the norms are in the products
const SOME = ['norm', 'PRODUCT', 'cached_attention', 'PRODUCT', 'norm', 'PRODUCT', 'PRODUCT']
const ADAPTED = ['norm', 'PRODUCT', 'cached_attention', 'project', 'PRODUCT', 'norm', 'PRODUCT', 'project', 'PRODUCT']
const by = (kernel: string, names: readonly string[]): string[] => names.map((n) => (n === 'PRODUCT' ? kernel : n))

describe.each<[string, TargetTraits, Layer, string[]]>([
  ['one row on a GPU', GPU, { format: 'f32', rows: 1 }, VEC],
  ['three rows of four on a GPU, 4 bits', GPU, { format: 'q4_1', rows: 3 }, VEC],
  ['scales of 1 + weight', GPU, { format: 'nf4', rows: 1, onePlus: true }, VEC],
  ['a GPU that binds 8 buffers', { ...GPU, storageBuffers: 8 }, { format: 'q4_0', rows: 1 }, ['norm', ...VEC]],
  ['adapted, on a GPU: the projections want the norms', GPU, { format: 'f32', rows: 1, adapted: true }, by('matmul_vec', ADAPTED)],
  ['more rows on a GPU: tiles', GPU, { format: 'f32', rows: 6 }, by('matmul_tile', SOME)],
  ['packed products', { ...GPU, dot: true }, { format: 'q4_1', rows: 1 }, VEC],
  ['this adapter', target, { format: 'q4_1', rows: 3 }, by('matmul_sgk', SOME)],
  ['this adapter, adapted', target, { format: 'f32', rows: 3, adapted: true }, by('matmul_sgk', ADAPTED)],
])('%s', (_, traits, o, want) => {
  const tolerance = traits.dot === true ? 2e-2 : 2e-6
  test.skipIf(traits.dot === true && !gpu.traits.dot)('few dispatches, and the same numbers', async () => {
    const [plain, joint] = [await layer(traits, o, false), await layer(traits, o, true)]
    const names = joint.calls.map((c) => c.name)
    expect(names).toEqual(want)
    for (const k of ['y', 'k', 'v'] as const) expect(relative(joint.out[k], plain.out[k]), k).toBeLessThan(tolerance)
    expect(joint.out.k.slice(2 * kv * hd)).not.toEqual(randn([slots, kv * hd], 3).slice(2 * kv * hd))
  })
})
