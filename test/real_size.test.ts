/** Plans of models as people tune them: bytes and dispatches, from their published shapes alone. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../src/io/json.ts'
import { defaults } from '../src/options.ts'
import { openBundle } from '../src/train/bundle.ts'
import { BY_COST, planStep, stepOf } from '../src/train/policy.ts'
import { randomModel } from '../src/train/random_model.ts'
import { Programs } from '../src/train/generator.ts'
import { type FixedPolicy, RUN_OPTIONS } from '../src/train/run_config.ts'
import type { TrainStep } from '../src/train/step.ts'
import { findMethod, TunableLayout } from '../src/train/tunable.ts'
import { target } from './gpu.ts'

const lora = findMethod('lora')
const run = { ...defaults(RUN_OPTIONS), batch: 1, seq: 512 }

function layoutOf(name: string, tuned = true): TunableLayout {
  const config = JSON.parse(readFileSync(new URL(`configs/${name}.json`, import.meta.url), 'utf8')) as JsonObject
  const o = { base: 'nf4', seed: 0, trainable: tuned, maxBindingSize: target.maxBindingSize, optim: 'adamw' } as const
  return new TunableLayout(openBundle(randomModel(config, name)), tuned ? lora : null, tuned ? { ...defaults(lora.options), r: 8 } : {}, o)
}
const planned = (t: TunableLayout, policy: FixedPolicy, seq = 512): TrainStep => stepOf(t, { ...run, seq }, target, policy)
const mb = (bytes: number): string => (bytes / 1e6).toFixed(1)

describe.each([
  ['smollm2-135m', 230],
  ['qwen2.5-0.5b', 600],
  ['llama-3.2-1b', 1200],
])('%s: LoRA r=8 on every linear layer, one row of 512 tokens, NF4', (name, most) => {
  test(`fits ${most} MB at its leanest, and each policy that takes more time takes less memory`, () => {
    const t = layoutOf(name)
    const totals = BY_COST.map((p) => planned(t, p).plan.total)
    console.log(`${name}: ${BY_COST.map((p, i) => `${p} ${mb(totals[i])}`).join(', ')} MB`)
    expect(totals.at(-1)! / 1e6).toBeLessThanOrEqual(most)
    // A large head's pieces cost uniforms: lean may be some kilobytes above checkpoint.
    totals.slice(1).forEach((bytes, i) => {
      expect(bytes, BY_COST[i + 1]).toBeLessThanOrEqual(1.001 * totals[i])
    })
  })
})

test('auto takes the first policy that fits the budget, and the leanest where none does', () => {
  const t = layoutOf('smollm2-135m')
  const totals = BY_COST.map((p) => planned(t, p).plan.total)
  const chosen = (budget: number): string => planStep(t, { ...run, policy: 'auto' }, target, budget).keeping.policy
  expect(BY_COST.map((_, i) => chosen(totals[i]))).toEqual(BY_COST)
  expect(chosen(1)).toBe('lean')
})

test('logits count for the loss head, also where activations have their memory at other times', () => {
  const t = layoutOf('smollm2-135m')
  for (const [policy, rows] of [
    ['lean', 32],
    ['fast', 128],
  ] as const) {
    const { plan } = planned(t, policy)
    expect(plan.bytes.head, policy).toBeGreaterThan(rows * 49152 * 4)
    expect(Object.values(plan.bytes).reduce((a, b) => a + b)).toBe(plan.total)
  }
})

test.each([
  // 30 blocks' inputs of 576 numbers; a few of them are at work as f32.
  ['checkpoint', 27 * 576],
  // Of each block: residuals (2 x 576), their norms (2 x 576), q | k | v (960), attention (576), gate | up (3072), gated (1536).
  ['fast', 27 * 8448],
] as const)('activations that wait as f16 under %s take half', (policy, numbers) => {
  const t = layoutOf('smollm2-135m')
  const [f32, f16] = (['f32', 'f16'] as const).map((activation_dtype) => stepOf(t, { ...run, activation_dtype }, target, policy).plan.total)
  console.log(`smollm2-135m, ${policy}: ${mb(f32)} MB, with f16 ${mb(f16)} MB`)
  expect((f32 - f16) / (512 * 2)).toBeGreaterThan(numbers)
})

test('lean has at most 32 rows of logits at once', () => {
  const { graph } = planned(layoutOf('llama-3.2-1b'), 'lean').plan.specs.find((s) => s.name === 'micro')!
  const rows = graph.calls.flatMap((c) => Object.values(c.buffers)).filter((t) => t.op === 'logits').map((t) => t.shape[0]) // prettier-ignore
  expect(Math.max(...rows)).toBe(32)
})

test.each([
  ['this adapter', target],
  ['a GPU', { ...target, software: false, subgroup: 0, storageBuffers: 10 }],
])('dispatches of a SmolLM2-135M step on %s', (name, traits) => {
  const t = layoutOf('smollm2-135m')
  const fast = stepOf(t, { ...run, seq: 128 }, traits, 'fast').dispatches
  const lean = stepOf(t, run, traits, 'lean').dispatches
  console.log(`SmolLM2-135M LoRA r=8 on ${name}: fast ${fast} dispatches at 1x128, lean ${lean} at 1x512`)
  expect(fast).toBeLessThanOrEqual(700)
  expect(lean).toBeLessThanOrEqual(950)
})

test.each([
  ['this adapter', target, 213],
  ['a GPU', { ...target, software: false, subgroup: 0, storageBuffers: 10 }, 152],
  ['a GPU that shares out keys', { ...target, software: false, subgroup: 0, storageBuffers: 10 }, 182, 2048],
])('dispatches of a new token of SmolLM2-135M on %s', (name, traits, most, capacity = 128) => {
  const { specs } = new Programs(layoutOf('smollm2-135m', false), capacity, false, traits, false)
  const calls = specs.find((s) => s.name === 'decode')!.graph.calls.length
  console.log(`A new token of SmolLM2-135M on ${name}: ${calls} dispatches`)
  expect(calls).toBeLessThanOrEqual(most)
})
