import { describe, expect, test } from 'vitest'
import { randn, relative, run, target } from '../../test/gpu.ts'
import { backward } from '../autograd/backward.ts'
import { gatedGelu } from '../autograd/ops/activation.ts'
import { ropeAttention } from '../autograd/ops/attention.ts'
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

describe('products and what follows them', () => {
  const [M, C, F, heads, kv, hd] = [21, 64, 96, 4, 2, 16]
  interface Made {
    readonly read: Record<'qkvGrad' | 'gateGrad' | 'dx', Tensor>
  }
  /** x → q|k|v, rotated, attended to → gate|up, gated → down: each adapted; the gradient back to x. */
  function trace(g: Graph, make: (shape: readonly number[], seed: number) => Tensor, leaf: (n: number, seed: number) => Storage): Made {
    const rows = new ScalarInput(M)
    const qkvCols = (heads + 2 * kv) * hd
    const sink = (n: number): Storage => leaf(n, 0)
    const x = g.leaf(leaf(M * C, 1), [M, C], { needsGrad: true, rows, sink: g.leaf(sink(M * C), [M, C], { rows }) })
    const adapted = (input: Tensor, out: number, at: number, starts: readonly number[], grads: Storage): Tensor => {
      const S = starts.length + 1
      const trained = (shape: readonly [number, number], seed: number, from: number): Tensor =>
        g.leaf(leaf(shape[0] * shape[1], seed), shape, { needsGrad: true, sink: g.leaf(grads, shape, { byteOffset: from * 4 }) })
      return lowRankLinear(
        input,
        asWeight(make([out, input.cols], at)),
        trained([S * 8, input.cols], at + 1, 0),
        trained([out, 8], at + 2, 4096),
        {
          scale: 0.5,
          segments: starts,
        },
      )
    }
    const [first, second, third] = [sink(8192), sink(8192), sink(8192)]
    const qkv = adapted(x, qkvCols, 10, [heads * hd, (heads + kv) * hd], first)
    const positions = g.leaf(leaf(M, -1), [M], { dtype: 'u32' })
    const seen = ropeAttention(qkv, {
      ...{ heads, kvHeads: kv, headDim: hd, scale: 0.25, batch: 1, tokens: rows },
      starts: g.leaf(leaf(M, -2), [M], { dtype: 'u32' }),
      rope: { positions, invFreq: make([hd / 2], 5), mscale: 1.25 },
    })
    const gate = adapted(seen, 2 * F, 20, [F], second)
    const down = adapted(gatedGelu(gate, 'tanh'), C, 30, [], third)
    backward(down, down)
    return {
      read: {
        qkvGrad: g.leaf(first, [8192]),
        gateGrad: g.leaf(second, [8192]),
        dx: g.leaf(x.sink!.storage!, [M * C]),
      },
    }
  }
  const dispatches = (join: boolean): number => {
    const g = new Graph({ ...target, storageBuffers: 10 })
    const leaf = (n: number): Storage => new Storage('x', n * 4, 'weights')
    trace(g, (shape) => g.leaf(leaf(shape.reduce((a, b) => a * b)), shape), leaf)
    return (join ? fuse(g) : g).calls.length
  }

  test('rotation, gating and its gradient cost no dispatch of their own', () => {
    expect(dispatches(false) - dispatches(true)).toBe(3)
  })

  test.each([
    ['subgroups', target],
    ['tiles', { ...target, software: false, subgroup: 0 }],
  ])('the same numbers, fused or not: %s', async (_, traits) => {
    const outcome = (join: boolean) =>
      run(({ g, leaf }) => {
        const values = (n: number, seed: number): Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> =>
          seed === -1
            ? Uint32Array.from({ length: n }, (_, i) => i)
            : seed < 0
              ? new Uint32Array(n)
              : seed === 0
                ? new Float32Array(n)
                : randn([n], seed, 0.3)
        const { read } = trace(
          g,
          (shape, seed) =>
            leaf(
              shape,
              values(
                shape.reduce((a, b) => a * b),
                seed,
              ),
            ),
          (n, seed) => leaf([n], values(n, seed)).storage!,
        )
        if (join) fuse(g)
        return read
      }, traits)
    const [plain, fused] = [await outcome(false), await outcome(true)]
    for (const k of ['qkvGrad', 'gateGrad', 'dx'] as const) {
      expect(Math.max(...plain[k].map(Math.abs)), k).toBeGreaterThan(1e-3)
      expect(relative(fused[k], plain[k]), k).toBeLessThan(2e-6)
    }
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
