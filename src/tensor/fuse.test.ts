import { describe, expect, test } from 'vitest'
import { randn, relative, run, target } from '../../test/gpu.ts'
import { backward } from '../autograd/backward.ts'
import { lowRankLinear } from '../autograd/ops/linear.ts'
import { asWeight } from '../autograd/ops/matmul.ts'
import { rmsNorm } from '../autograd/ops/norm.ts'
import { pointwiseKernel } from '../kernels/pointwise.ts'
import { fuse } from './fuse.ts'
import { Graph, ScalarInput, type TargetTraits, type Tensor } from './graph.ts'
import { Storage } from './storage.ts'

/** Two adapted layers after a norm, the second fused of three members, with sinks for both factors in one buffer. */
function trace(
  g: Graph,
  leaf: (n: number, seed: number) => Storage,
  o: { ragged?: boolean } = {},
): { loss: Tensor; grads: Storage; x: Tensor } {
  const [M, C, r] = [21, 64, 8]
  const rows = new ScalarInput(o.ragged ? 13 : M)
  const x = g.leaf(leaf(M * C, 1), [M, C], { rows, needsGrad: true, sink: g.leaf(leaf(M * C, 99), [M, C], { rows }) })
  const grads = leaf(8192, 0)
  const trained = (shape: readonly [number, number], seed: number, at: number): Tensor =>
    g.leaf(leaf(shape[0] * shape[1], seed), shape, { needsGrad: true, sink: g.leaf(grads, shape, { byteOffset: at * 4 }) })
  const norm = rmsNorm(x, g.leaf(leaf(C, 2), [C]), 1e-6)
  const w1 = asWeight(g.leaf(leaf(C * C, 3), [C, C]))
  const w2 = asWeight(g.leaf(leaf(128 * C, 4), [128, C]))
  const a = lowRankLinear(norm, w1, trained([r, C], 5, 0), trained([C, r], 6, 1024), { scale: 2, segments: [], residual: x })
  const b = lowRankLinear(a, w2, trained([3 * r, C], 7, 2048), trained([128, r], 8, 4096), { scale: 0.5, segments: [64, 96] })
  backward(b, b)
  return { loss: b, grads, x }
}

const names = (g: Graph): string[] => g.calls.map((c) => c.kernel.name)

describe('fused calls', () => {
  const made = (t: TargetTraits): Graph => {
    const g = new Graph(t)
    trace(g, (n) => new Storage('x', n * 4, 'weights'))
    return g
  }
  test('a norm takes the projection of its result with it, and two sites share a dispatch of gradients', () => {
    const g = made({ ...target, storageBuffers: 10 })
    const before = names(g)
    expect(before.filter((n) => n === 'project')).toHaveLength(4)
    expect(before.filter((n) => n === 'low_rank_grad')).toHaveLength(2)
    const after = names(fuse(g))
    expect(after.filter((n) => n === 'project')).toHaveLength(3)
    expect(after.filter((n) => n === 'low_rank_grad')).toHaveLength(1)
    expect(after).toHaveLength(before.length - 2)
  })
  test('with 8 storage buffers each site has its own', () => {
    expect(names(fuse(made({ ...target, storageBuffers: 8 }))).filter((n) => n === 'low_rank_grad')).toHaveLength(2)
  })

  test.each([{ ragged: false }, { ragged: true }])('the same numbers, fused or not (ragged: $ragged)', async (o) => {
    const outcome = (join: boolean) =>
      run(({ g, leaf }) => {
        const kept: Tensor[] = []
        const t = trace(
          g,
          (n, seed) => {
            const l = leaf([n], seed === 0 || seed === 99 ? new Float32Array(n) : randn([n], seed, 0.3))
            kept.push(l)
            return l.storage!
          },
          o,
        )
        if (join) fuse(g, [t.loss])
        return { loss: t.loss, grads: kept.find((l) => l.storage === t.grads)!, dx: kept.find((l) => l.storage === t.x.sink!.storage)! }
      })
    const [plain, fused] = [await outcome(false), await outcome(true)]
    for (const k of ['grads', 'dx'] as const) {
      expect(Math.max(...plain[k].map(Math.abs))).toBeGreaterThan(0.1)
      expect(relative(fused[k], plain[k]), k).toBeLessThan(1e-6)
    }
    const live = (o.ragged ? 13 : 21) * 128
    expect(relative(fused.loss.slice(0, live), plain.loss.slice(0, live))).toBeLessThan(1e-6)
  })
})

test('a call whose result nobody reads is left out', () => {
  const g = new Graph(target)
  const x = g.leaf(new Storage('x', 64, 'weights'), [16])
  const copy = (from: Tensor): Tensor => {
    const out = g.node('copy', [16], [from], null)
    g.call(pointwiseKernel, { x: from, out }, { len: 16, y_len: 1, alpha: 1 }, { apply: 'copy' })
    return out
  }
  const kept = copy(x)
  copy(copy(x))
  expect(fuse(g, [kept]).calls).toHaveLength(1)
})
