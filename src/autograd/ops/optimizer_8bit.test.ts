/** Steps of bitsandbytes' AdamW8bit and of COAT (test/golden/adam_8bit.py). A moment that lies on the border of two codes may take either: all but 1 % of
 * codes are equal and the others neighbours. A parameter moves by up to its rate a step, and by the difference of such a code: 2 % of the rate. */
import { expect, test } from 'vitest'
import golden from '../../../test/golden/layer_ops/adam_8bit.json'
import { gpu, randn } from '../../../test/gpu.ts'
import { f32, MODES } from '../../../test/modes.ts'
import { optimizerStep } from '../../optim/adamw.ts'
import { dynamicMap, dynamicTables } from '../../optim/dynamic_map.ts'
import { Graph, ScalarInput, ShapeError } from '../../tensor/graph.ts'
import { Session, SessionPlan } from '../../tensor/program.ts'
import { Storage } from '../../tensor/storage.ts'
import { adamw8bitStep, moment8bitBytes, type Moments8bit } from './optimizer.ts'

test('the maps are those of bitsandbytes, to a rounding', () => {
  for (const [signed, want] of [
    [true, golden.maps.signed],
    [false, golden.maps.unsigned],
  ] as const) {
    const got = dynamicMap(signed)
    expect(got).toHaveLength(256)
    got.forEach((v, i) => expect(Math.abs(v - want[i])).toBeLessThanOrEqual(2e-7 * Math.abs(want[i])))
  }
})

type Step = { param: number[]; m?: number[]; v?: number[]; absmax_m?: number[]; absmax_v?: number[]; k_m?: number[]; k_v?: number[] }
const KINDS: [Moments8bit, 'adamw_8bit' | 'adamw_coat'][] = [
  ['dynamic', 'adamw_8bit'],
  ['expand', 'adamw_coat'],
]

/** An optimizer over one flat buffer. */
async function optimizer(kind: Moments8bit, start: Float32Array<ArrayBuffer>, traits: (typeof MODES)[number]['traits'], decay: number) {
  const n = start.length
  const g = new Graph(traits)
  const storages: Storage[] = []
  const make = (values: ArrayBufferView<ArrayBuffer>) => {
    const s = new Storage('test', values.byteLength, 'optimizer').allocate(gpu)
    s.write(values)
    storages.push(s)
    return s
  }
  const leaf = (values: Float32Array<ArrayBuffer>) => g.leaf(make(values), [values.length])
  const words = moment8bitBytes(kind, n) / 4
  const moment = () => g.leaf(make(new Uint32Array(words)), [words], { dtype: 'u32' })
  const state = {
    kind,
    param: leaf(start),
    grad: leaf(new Float32Array(n)),
    m: moment(),
    v: moment(),
    lrScale: leaf(new Float32Array(n / 64).fill(1)),
    tables: kind === 'dynamic' ? leaf(dynamicTables()) : null,
  }
  const stats = leaf(new Float32Array(4))
  const [lr, step] = [new ScalarInput(0), new ScalarInput(0)]
  optimizerStep([state], stats, { lr, step, weightDecay: decay, clip: 0 })
  const session = await Session.create(gpu, new SessionPlan([{ name: 'update', graph: g }]))
  const [program] = session.programs
  return {
    state,
    lr,
    calls: g.calls.length,
    step: async (grad: Float32Array<ArrayBuffer>) => {
      step.value++
      state.grad.storage!.write(grad)
      program.run()
      const [param, m, v, left] = [
        await program.read(state.param),
        await state.m.storage!.read(),
        await state.v.storage!.read(),
        await program.read(state.grad),
      ]
      return { param, m, v, left }
    },
    destroy: () => {
      session.destroy()
      for (const s of storages) s.destroy()
    },
  }
}

/** Value of an E4M3 byte. */
const e4m3 = (c: number): number => (c & 128 ? -1 : 1) * (c & 120 ? (8 + (c & 7)) * 2 ** (((c >> 3) & 15) - 10) : (c & 7) * 2 ** -9)

describeEach('$name', (traits) => {
  for (const { lr, decay, start, grads, ...expected } of golden.cases)
    test.each(KINDS)(`%s, decay ${decay}: parameters, codes and scales after each step`, async (kind, name) => {
      const n = start.length
      const o = await optimizer(kind, f32(start), traits, decay)
      o.lr.value = lr
      expect(o.calls).toBe(3)
      try {
        for (const [i, want] of (expected[name] as Step[]).entries()) {
          const got = await o.step(f32(grads[i]))
          expect([...got.left].every((v) => v === 0)).toBe(true)
          expect(Math.max(...want.param.map((p, j) => Math.abs(p - got.param[j]))), `step ${i + 1}`).toBeLessThan(0.02 * lr)
          if (!want.m || !want.v) continue
          for (const [moment, codes, scales, exponents] of [
            [got.m, want.m, want.absmax_m, want.k_m],
            [got.v, want.v, want.absmax_v, want.k_v],
          ] as const) {
            const bytes = new Uint8Array(moment, 0, n)
            const tail = new Float32Array(moment, n)
            if (kind === 'dynamic') {
              scales!.forEach((s, b) => expect(Math.abs(tail[b] / s - 1)).toBeLessThan(1e-5))
              const off = codes.map((c, j) => Math.abs(c - bytes[j]))
              expect(Math.max(...off)).toBeLessThanOrEqual(1)
              expect(off.filter((d) => d > 0).length).toBeLessThan(n / 100)
            } else {
              // Exponents come in sixteenths: on a border either is right.
              exponents!.forEach((k, b) => expect(Math.abs(tail[2 * b + 1] - k)).toBeLessThanOrEqual(1 / 16))
              const value = (j: number): number => {
                const [largest, k] = tail.subarray(2 * (j >> 7), 2 * (j >> 7) + 2)
                const f = e4m3(bytes[j])
                return Math.sign(f) * largest * (Math.abs(f) / 448) ** (1 / k)
              }
              // Three bits after the point, and k below 1 widens them; the smallest are subnormal.
              const far = codes.filter((c, j) => Math.abs(value(j) - c) > 1e-3 * Math.abs(c) + 1e-12)
              expect(far.length).toBeLessThan(n / 50)
              expect(codes.filter((c, j) => Math.abs(value(j) - c) > 0.5 * Math.abs(c) + 1e-9)).toEqual([])
            }
          }
        }
      } finally {
        o.destroy()
      }
    })

  test.each(KINDS)('%s: a quadratic is minimised as with moments in 32 bits', async (kind) => {
    const start = randn([1024], 5)
    const o = await optimizer(kind, start, traits, 0)
    o.lr.value = 0.05
    try {
      let p = start
      for (let i = 0; i < 60; i++) p = (await o.step(p)).param
      const want = start.slice()
      const [m, v] = [new Float64Array(1024), new Float64Array(1024)]
      for (let i = 1; i <= 60; i++)
        want.forEach((g, j) => {
          m[j] = 0.9 * m[j] + 0.1 * g
          v[j] = 0.999 * v[j] + 0.001 * g * g
          want[j] -= (0.05 * (m[j] / (1 - 0.9 ** i))) / (Math.sqrt(v[j] / (1 - 0.999 ** i)) + 1e-8)
        })
      const norm = (v: Float32Array) => Math.hypot(...v)
      const ratios = [norm(p), norm(want)].map((v) => v / norm(start))
      console.log(`${kind}: ${ratios[0].toFixed(4)} of the start is left after 60 steps, ${ratios[1].toFixed(4)} with 32 bits`)
      expect(ratios[1]).toBeLessThan(0.1)
      expect(Math.abs(ratios[0] - ratios[1])).toBeLessThan(0.02)
    } finally {
      o.destroy()
    }
  })
})

function describeEach(_: string, body: (traits: (typeof MODES)[number]['traits']) => void): void {
  for (const mode of MODES.filter((m) => m.spare === 0)) body(mode.traits)
}

test('a gradient that is not finite changes nothing; other shapes are refused', async () => {
  const start = randn([256], 1)
  const o = await optimizer('dynamic', start, MODES[0].traits, 0)
  o.lr.value = 0.1
  const first = await o.step(randn([256], 2))
  const bad = randn([256], 3)
  bad[77] = NaN
  const after = await o.step(bad)
  expect([after.param, after.m, after.v]).toEqual([first.param, first.m, first.v])
  expect([...after.left].every((v) => v === 0)).toBe(true)
  const { state } = o
  const options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, lr: 0.1, step: 1 }
  expect(() => adamw8bitStep({ ...state, m: state.grad }, state.param, options)).toThrow(ShapeError)
  expect(() => adamw8bitStep({ ...state, tables: null }, state.param, options)).toThrow(ShapeError)
  o.destroy()
})
