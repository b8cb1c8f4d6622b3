/** Ways of keeping activations give the gradients that keeping all of them gives: 1e-5 relative where the same sums are computed again in f32, 1e-2 where what
 * waits is rounded to 11 bits (each of a gradient's factors by up to 5e-4 relative, over five blocks). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gpu, relative, target } from '../../test/gpu.ts'
import { onGpu, RUN, tinyBundle, tinyRows } from '../../test/tiny.ts'
import { collate } from '../data/collate.ts'
import { OptionError } from '../errors.ts'
import { findMethod, type TunableLayout } from './tunable.ts'
import { planStep } from './policy.ts'
import { type Keeping, TrainStep } from './step.ts'
import { Session } from '../tensor/program.ts'
import { Recorder } from '../tensor/recorder.ts'

const ALL: Keeping = { policy: 'fast', recompute: false, checkpointEvery: null, headRows: null, half: false }
let tunable: TunableLayout
beforeAll(async () => {
  // B is random too: with zeros nothing would reach A.
  const options = { r: 4, alpha: 8, init_lora_weights: 'gaussian' as const }
  tunable = await onGpu(await tinyBundle({ num_hidden_layers: 5, hidden_size: 64, num_attention_heads: 4 }), findMethod('lora'), options)
  const [arena] = tunable.trained!.arenas
  arena.param.write(Float32Array.from({ length: arena.length }, (_, i) => Math.sin(i) / 8))
})
afterAll(() => {
  tunable.destroy()
})

/** Loss and gradients of one batch. */
async function gradients(keeping: Keeping): Promise<{ loss: number; grad: Float32Array; dispatches: number }> {
  const step = new TrainStep(tunable, RUN, target, keeping)
  const session = await Session.create(gpu, step.plan)
  try {
    const data = tinyRows({ rows: RUN.batch, length: RUN.seq })
    const batch = collate(data, [[0], [1], [2], [3]], RUN.seq)
    step.rope.invFreq.write(step.rope.values)
    step.buffers.scale.value = 1 / batch.labelled
    const [arena] = tunable.trained!.arenas
    const { grad } = arena.training!
    grad.write(new Float32Array(arena.length))
    step.buffers.lossSum.write(new Float32Array(1))
    step.buffers.write(batch, null)
    const out = new Recorder(gpu)
    session.program('micro').record(out)
    out.flush()
    const [loss] = new Float32Array(await step.buffers.lossSum.read())
    return { loss: loss / batch.labelled, grad: new Float32Array(await grad.read()), dispatches: step.dispatches }
  } finally {
    session.destroy()
    for (const s of step.own()) s.destroy()
  }
}

describe('gradients of LoRA on five blocks', () => {
  const cases: [name: string, keeping: Partial<Keeping>][] = [
    ['norms and activations again', { recompute: true }],
    ...[1, 2, 3, 4, 5].map((k): [string, Partial<Keeping>] => [`checkpoints every ${k}`, { checkpointEvery: k }]),
    ['checkpoints every 2, logits by 32 rows', { checkpointEvery: 2, headRows: 32 }],
  ]
  test.each(cases)('%s', async (_, change) => {
    const want = await gradients(ALL)
    expect(want.grad.some((g) => Math.abs(g) > 1e-3)).toBe(true)
    const got = await gradients({ ...ALL, ...change })
    expect(Math.abs(got.loss - want.loss)).toBeLessThan(1e-5)
    expect(relative(got.grad, want.grad)).toBeLessThan(1e-5)
    expect(got.dispatches).not.toBe(want.dispatches)
    const half = await gradients({ ...ALL, ...change, half: true })
    expect(half.dispatches).toBeGreaterThan(got.dispatches)
    expect(Math.abs(half.loss - want.loss)).toBeLessThan(1e-5)
    const off = relative(half.grad, want.grad)
    console.log(`${_}: with f16 ${off.toExponential(1)} off, ${got.dispatches} dispatches, ${half.dispatches} with f16`)
    expect(off).toBeGreaterThan(0)
    expect(off).toBeLessThan(1e-2)
  })
})

test('virtual tokens and packed rows are refused together', async () => {
  const t = await onGpu(await tinyBundle(), findMethod('prompt-tuning'), { num_virtual_tokens: 4 })
  try {
    expect(() => planStep(t, { ...RUN, pack: true }, target, Infinity)).toThrow(OptionError)
    expect(planStep(t, { ...RUN, pack: false }, target, Infinity).keeping.policy).toBe('fast')
  } finally {
    t.destroy()
  }
})
