/** @file Work is cut as the pace of a device asks: counted exactly, and to the bit the same result as in one piece. */
import { describe, expect, test } from 'vitest'
import { gpu, randn, target } from '../../test/gpu.ts'
import { backward } from '../autograd/backward.ts'
import { ropeAttention } from '../autograd/ops/attention.ts'
import { asWeight, emitMatmul } from '../autograd/ops/matmul.ts'
import { scale } from '../autograd/ops/pointwise.ts'
import { type Pace, paceOf, secondsFor } from '../gpu/pace.ts'
import { Graph, numel, ScalarInput, type Shape, type TargetTraits, type Tensor } from './graph.ts'
import { Session, SessionPlan } from './program.ts'
import { estimate, pieceSize, Recorder } from './recorder.ts'
import { Storage } from './storage.ts'

const GPU: TargetTraits = { software: false, subgroup: 0, maxBindingSize: target.maxBindingSize }
const at = (pace: Partial<Pace>): TargetTraits => ({
  ...GPU,
  pace: { flops: 1, bytes: Infinity, dispatch: Infinity, submit: Infinity, ...pace },
})

/** Trace, record once, and read `out`. */
async function record(traits: TargetTraits, trace: (g: Graph, leaf: (shape: Shape, seed?: number) => Tensor) => Tensor[]) {
  const g = new Graph(traits)
  const storages: Storage[] = []
  const leaf = (shape: Shape, seed?: number): Tensor => {
    const s = new Storage('test', 4 * numel(shape), 'weights').allocate(gpu)
    s.write(seed === undefined ? new Uint32Array(numel(shape)) : randn(shape, seed))
    storages.push(s)
    return g.leaf(s, shape)
  }
  const out = trace(g, leaf)
  const session = await Session.create(gpu, new SessionPlan([{ name: 'test', graph: g, keep: out }]))
  const [program] = session.programs
  const go = async (): Promise<{ dispatches: number; submits: number; values: number[][] }> => {
    const to = new Recorder(gpu)
    program.record(to)
    to.flush()
    const values = []
    for (const t of out) values.push([...(await program.read(t))])
    return { dispatches: to.dispatches, submits: to.submits, values }
  }
  const first = await go()
  return {
    ...first,
    again: go,
    destroy: () => {
      session.destroy()
      for (const s of storages) s.destroy()
    },
  }
}

describe.each(['tile', 'any'])('matmul_%s', (family) => {
  const [M, N] = [150, 40]
  const K = family === 'tile' ? 24 : 22
  const flops = 2 * M * N * K
  const trace =
    (rows: number | ScalarInput) =>
    (g: Graph, leaf: (shape: Shape, seed?: number) => Tensor): Tensor[] => {
      const c = scale(leaf([M, N], 3), 1)
      emitMatmul({ layout: 'nt', a: leaf([M, K], 1), b: asWeight(leaf([N, K], 2)), c, M: rows, N, K, accumulate: true })
      expect(g.calls[1].kernel.name).toBe(`matmul_${family}`)
      return [c]
    }
  // Rows a workgroup: the cut falls between workgroups.
  const tile = family === 'tile' ? 32 : 8
  const pieces = (parts: number, rows = M): number => {
    const groups = Math.ceil(rows / tile)
    return Math.ceil(groups / Math.max(1, Math.floor(groups / parts)))
  }

  test('a dispatch over the limit is cut over its rows', async () => {
    const whole = await record(GPU, trace(M))
    expect(whole).toMatchObject({ dispatches: 2, submits: 1 })
    for (const parts of [2, 3, 100]) {
      const cut = await record(at({ dispatch: flops / parts }), trace(M))
      expect(cut).toMatchObject({ dispatches: 1 + pieces(parts), submits: 1 })
      expect(cut.values).toEqual(whole.values)
      cut.destroy()
    }
    whole.destroy()
  })

  test('fewer live rows are fewer pieces, and more again', async () => {
    const rows = new ScalarInput(tile)
    const whole = await record(GPU, trace(rows))
    const cut = await record(at({ dispatch: 2 * tile * N * K }), trace(rows))
    expect(cut.dispatches).toBe(2)
    expect(cut.values).toEqual(whole.values)
    rows.value = M
    const [a, b] = [await whole.again(), await cut.again()]
    // Estimated by rows, so that the last, partly filled workgroup makes the others look shorter than they are.
    expect(b.dispatches).toBe(1 + Math.ceil(M / tile))
    expect(b.values).toEqual(a.values)
    rows.value = 0
    expect((await cut.again()).dispatches).toBe(1)
    whole.destroy()
    cut.destroy()
  })
})

test('attention is cut over the rows of all heads, forwards and backwards', async () => {
  const [T, heads, headDim] = [200, 3, 16]
  const trace = (_g: Graph, leaf: (shape: Shape, seed?: number) => Tensor): Tensor[] => {
    const qkv = leaf([T, 5 * headDim], 1)
    const x = qkv.graph.node('x', qkv.shape, [qkv], () => [null])
    emitCopy(qkv, x)
    Object.assign(x, { needsGrad: true })
    const y = ropeAttention(x, {
      ...{ heads, kvHeads: 1, headDim, scale: 0.25, starts: leaf([T]), batch: 1, tokens: T },
      rope: { positions: leaf([T]), invFreq: leaf([8], 4) },
    })
    const [dx] = backward(y, leaf([T, heads * headDim], 2), [x])
    return [y, dx!]
  }
  const emitCopy = (from: Tensor, to: Tensor): void => {
    emitMatmul({ layout: 'nt', a: from, b: asWeight(identity(from.graph, from.cols)), c: to, M: T, N: from.cols, K: from.cols })
  }
  const made: Storage[] = []
  const identity = (g: Graph, n: number): Tensor => {
    const s = new Storage('identity', 4 * n * n, 'weights').allocate(gpu)
    s.write(Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)))
    made.push(s)
    return g.leaf(s, [n, n])
  }
  const whole = await record(GPU, trace)
  const forward = 4 * heads * T * T * headDim
  const cut = await record(at({ dispatch: forward }), trace)
  // Copy and rope in one piece each; forward 1; dq (3/2 of it) and dkv (2) in two.
  expect([whole.dispatches, cut.dispatches]).toEqual([5, 7])
  expect(cut.values).toEqual(whole.values)
  const fine = await record(at({ dispatch: forward / 50 }), trace)
  // 200 rows are 4 workgroups of 64: no finer.
  expect(fine.dispatches).toBeGreaterThanOrEqual(2 + 3 * 4)
  expect(fine.values).toEqual(whole.values)
  for (const r of [whole, cut, fine]) r.destroy()
  for (const s of made) s.destroy()
})

test('a submit holds no more than its limit, and nothing is submitted twice', async () => {
  const [M, N, K] = [8, 8, 8]
  const flops = 2 * M * N * K
  const trace = (_g: Graph, leaf: (shape: Shape, seed?: number) => Tensor): Tensor[] => {
    const c = scale(leaf([M, N], 3), 1)
    const [a, b] = [leaf([M, K], 1), asWeight(leaf([N, K], 2))]
    for (let i = 0; i < 10; i++) emitMatmul({ layout: 'nt', a, b, c, M, N, K, accumulate: true })
    return [c]
  }
  const one = await record(at({}), trace)
  expect(one).toMatchObject({ dispatches: 11, submits: 1 })
  for (const [limit, submits] of [
    [2.5 * flops, 5],
    [3 * flops, 4],
    [0.5 * flops, 10],
  ]) {
    const many = await record(at({ submit: limit }), trace)
    expect(many).toMatchObject({ dispatches: 11, submits })
    expect(many.values).toEqual(one.values)
    many.destroy()
  }
  one.destroy()
})

test('no watchdog on software adapters; on GPUs no piece of the largest layers takes over half a second', () => {
  expect(paceOf({ ...GPU, software: true })).toBeNull()
  const pace = paceOf(GPU)!
  expect(pace).toMatchObject({ dispatch: 0.5, submit: 2 })
  expect(secondsFor(pace, pace.flops, 0)).toBe(1)
  expect(secondsFor(pace, 0, pace.bytes / 2)).toBe(0.5)
  // Llama-3.2-1B at 4 x 4096 tokens: gate and up in one, and attention over one sequence of 16,384.
  const g = new Graph(GPU)
  const leaf = (shape: Shape): Tensor => g.leaf(new Storage('t', 4 * numel(shape), 'weights'), shape)
  const M = 16_384
  emitMatmul({ layout: 'nt', a: leaf([M, 2048]), b: asWeight(leaf([16_384, 2048])), c: leaf([M, 16_384]), M, N: 16_384, K: 2048 })
  const qkv = g.node('qkv', [M, 3072], [], null)
  const heads = { heads: 32, kvHeads: 8, headDim: 64, scale: 0.125, batch: 1, tokens: M }
  ropeAttention(qkv, { ...heads, starts: leaf([M]), rope: { positions: leaf([M]), invFreq: leaf([32]) } })
  const worst = g.calls.map((c) => {
    const uniforms = c.uniforms as Record<string, number>
    const [x, y = 1] = c.kernel.grid(uniforms, c.constants)
    const groups = c.kernel.split === 'x' ? x : c.kernel.split === 'y' ? y : 1
    const seconds = estimate(pace, c, uniforms)
    const piece = seconds > pace.dispatch ? (seconds * pieceSize(pace, seconds, groups)) / groups : seconds
    return { name: c.kernel.name, seconds, piece }
  })
  expect(worst.map((w) => w.name)).toEqual(['matmul_tile', 'rope', 'attention_forward_tile'])
  expect(worst[0].seconds).toBeGreaterThan(5)
  expect(worst[2].seconds).toBeGreaterThan(5)
  for (const w of worst) expect(w.piece, w.name).toBeLessThanOrEqual(pace.dispatch)
})
