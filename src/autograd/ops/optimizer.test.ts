/** Three steps of torch.optim.AdamW with clip_grad_norm_ and two rates (test/golden/layer_ops.py). Both are f32: a few roundings apart a step. */
import { describe, expect, test } from 'vitest'
import cases from '../../../test/golden/layer_ops/adamw.json'
import { closeness, gpu, randn, run } from '../../../test/gpu.ts'
import { f32, MODES } from '../../../test/modes.ts'
import { ADAMW_DEFAULTS, optimizerStep } from '../../optim/adamw.ts'
import { Graph, ScalarInput, ShapeError } from '../../tensor/graph.ts'
import { Session, SessionPlan } from '../../tensor/program.ts'
import { Storage } from '../../tensor/storage.ts'
import { adamwStep, gradNorm, STATS } from './optimizer.ts'
import { scale } from './pointwise.ts'

describe.each(MODES.filter((m) => m.spare === 0))('$name', (mode) => {
  test.each(cases)(
    'decay $decay, clip $clip: parameters, moments and norm over replays',
    async ({ lr, ratio, decay, clip, start, steps }) => {
      const n = start.length
      const g = new Graph(mode.traits)
      const storages: Storage[] = []
      const leaf = (values: Float32Array<ArrayBuffer>) => {
        const s = new Storage('test', values.byteLength, 'optimizer').allocate(gpu)
        s.write(values)
        storages.push(s)
        return g.leaf(s, [values.length])
      }
      const state = {
        param: leaf(f32(start)),
        grad: leaf(new Float32Array(n)),
        m: leaf(new Float32Array(n)),
        v: leaf(new Float32Array(n)),
        lrScale: leaf(f32([1, 1, ratio])),
      }
      const stats = leaf(new Float32Array(4))
      const step = new ScalarInput(0)
      optimizerStep([state], stats, { lr, step, weightDecay: decay, clip })
      expect(g.calls.length).toBe(3)
      const session = await Session.create(gpu, new SessionPlan([{ name: 'update', graph: g }]))
      const program = session.programs[0]
      try {
        for (const expected of steps) {
          step.value++
          state.grad.storage!.write(f32(expected.grad))
          program.run()
          expect(closeness(await program.read(state.param), expected.param, 1e-5, 1e-6)).toBeLessThan(1)
          expect(closeness(await program.read(state.m), expected.m, 1e-5, 1e-7)).toBeLessThan(1)
          expect(closeness(await program.read(state.v), expected.v, 1e-5, 1e-7)).toBeLessThan(1)
          expect([...(await program.read(state.grad))].every((v) => v === 0)).toBe(true)
          const [norm, coefficient, nonFinite] = await program.read(stats)
          expect(closeness([norm], expected.norm, 1e-5)).toBeLessThan(1)
          expect(coefficient).toBeCloseTo(clip ? Math.min(1, clip / (norm + 1e-6)) : 1, 5)
          expect(nonFinite).toBe(0)
        }
      } finally {
        session.destroy()
        for (const s of storages) s.destroy()
      }
    },
  )

  test.each([1, 33, 5000])('the norm of several buffers of up to %d vec4s', async (size) => {
    const buffers = [randn([size * 4], 1), randn([8], 2), randn([260], 3)]
    const out = await run(({ leaf }) => {
      const stats = leaf([4], new Float32Array(4))
      gradNorm(
        buffers.map((b) => leaf([b.length], b)),
        0.5,
        stats,
      )
      return { stats }
    }, mode.traits)
    const norm = Math.sqrt(buffers.reduce((t, b) => t + b.reduce((s, v) => s + v * v, 0), 0))
    expect(closeness(out.stats, [norm, 0.5 / (norm + 1e-6), 0, 0], 1e-5, 1e-9)).toBeLessThan(1)
  })

  test.each([NaN, Infinity, -Infinity, 1e30])('a gradient with %d changes nothing but is cleared', async (bad) => {
    const [p, m, v] = [randn([64], 1), randn([64], 2), randn([64], 3).map(Math.abs)]
    const grad = randn([64], 4)
    grad[37] = bad
    const out = await run(({ leaf }) => {
      const stats = leaf([4], new Float32Array(4))
      const s = { param: leaf([64], p), grad: leaf([64], grad), m: leaf([64], m), v: leaf([64], v), lrScale: leaf([1], f32([1])) }
      gradNorm([s.grad], 1, stats)
      adamwStep(s, stats, { ...ADAMW_DEFAULTS, lr: 0.1, step: 1, weightDecay: 0.1, clear: true })
      return { ...s, stats }
    }, mode.traits)
    expect(out.stats[STATS.nonFinite]).toBe(1)
    expect(Number.isFinite(out.stats[STATS.norm])).toBe(false)
    expect([out.param, out.m, out.v]).toEqual([p, m, v])
    expect([...out.grad]).toEqual(new Array(64).fill(0))
  })
})

test.each([NaN, Infinity])('a loss of %d skips the update, and so does every step after it until the host says otherwise', async (bad) => {
  const g = new Graph(MODES[0].traits)
  const storages: Storage[] = []
  const leaf = (v: Float32Array<ArrayBuffer>) => {
    const s = new Storage('test', v.byteLength, 'optimizer').allocate(gpu)
    s.write(v)
    storages.push(s)
    return g.leaf(s, [v.length])
  }
  const start = randn([64], 1)
  const grad = randn([64], 4)
  const zeros = () => new Float32Array(64)
  const s = { param: leaf(start), grad: leaf(grad), m: leaf(zeros()), v: leaf(zeros()), lrScale: leaf(f32([1])) }
  const stats = leaf(new Float32Array(4))
  const loss = leaf(f32([bad]))
  optimizerStep([s], stats, { lr: 0.1, step: 1, weightDecay: 0, clip: 0, loss })
  const session = await Session.create(gpu, new SessionPlan([{ name: 'update', graph: g }]))
  const [program] = session.programs
  const step = async () => {
    s.grad.storage!.write(grad)
    program.run()
    return [...(await program.read(s.param))]
  }
  try {
    expect(await step()).toEqual([...start])
    loss.storage!.write(f32([1]))
    expect(await step()).toEqual([...start])
    stats.storage!.write(new Float32Array(4))
    expect(await step()).not.toEqual([...start])
  } finally {
    session.destroy()
    for (const each of storages) each.destroy()
  }
})

test('without clear the gradient stays; wrong lengths are refused', async () => {
  const grad = randn([8], 4)
  const out = await run(({ leaf }) => {
    const stats = leaf([4], f32([1, 1, 0, 0]))
    const s = {
      param: leaf([8], randn([8], 1)),
      grad: leaf([8], grad),
      m: leaf([8], randn([8], 2)),
      v: leaf([8], new Float32Array(8)),
      lrScale: leaf([1], f32([1])),
    }
    const o = { ...ADAMW_DEFAULTS, lr: 0.1, step: 1, weightDecay: 0 }
    adamwStep(s, stats, o)
    const short = leaf([4], new Float32Array(4))
    expect(() => adamwStep({ ...s, m: short }, stats, o)).toThrow(ShapeError)
    expect(() => adamwStep({ ...s, lrScale: leaf([2], f32([1, 1])) }, stats, o)).toThrow('1 blocks')
    expect(() => gradNorm([], 1, stats)).toThrow(ShapeError)
    expect(() => gradNorm([leaf([6], new Float32Array(6))], 1, stats)).toThrow('multiple of 4')
    return { grad: s.grad, y: scale(s.param, 1) }
  })
  expect(out.grad).toEqual(grad)
})
