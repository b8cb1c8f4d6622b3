/** Steps of real sizes on a GPU: no dispatch is estimated to keep the slowest supported one busy for over half a second, no submit for over two. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type Pace, paceOf } from '../src/gpu/pace.ts'
import type { JsonObject } from '../src/io/json.ts'
import { defaults } from '../src/options.ts'
import type { AnyKernel } from '../src/gpu/kernel.ts'
import * as kernels from '../src/kernels/kernels.ts'
import { tunedTo } from '../src/kernels/matmul.ts'
import { type Call, isLive, type TargetTraits } from '../src/tensor/graph.ts'
import { estimate, pieceSize } from '../src/tensor/recorder.ts'
import { openBundle } from '../src/train/bundle.ts'
import { stepOf } from '../src/train/policy.ts'
import { randomModel } from '../src/train/random_model.ts'
import { type FixedPolicy, RUN_OPTIONS } from '../src/train/run_config.ts'
import { findMethod, TunableLayout } from '../src/train/tunable.ts'

const GPU = { software: false, subgroup: 0, maxBindingSize: 2 ** 31 - 4 }
/** One on which tuning found tiles in registers, fed by subgroups, fastest. */
const SUBGROUPS = { ...GPU, subgroup: 32, matmuls: tunedTo({ family: 'sgk', TM: 16, V: 2 }) }
const pace = paceOf(GPU)!
const lora = findMethod('lora')

/** Seconds of each dispatch of a step of full rows, after cutting. */
function dispatches(name: string, batch: number, seq: number, policy: FixedPolicy, gpu: TargetTraits): { name: string; seconds: number }[] {
  const config = JSON.parse(readFileSync(new URL(`configs/${name}.json`, import.meta.url), 'utf8')) as JsonObject
  const o = { base: 'nf4', seed: 0, trainable: true, maxBindingSize: GPU.maxBindingSize, optim: 'adamw' } as const
  const layout = new TunableLayout(openBundle(randomModel(config, name)), lora, { ...defaults(lora.options), r: 8 }, o)
  const step = stepOf(layout, { ...defaults(RUN_OPTIONS), batch, seq }, gpu, policy)
  step.buffers.text.value = seq
  step.buffers.labels.value = batch * seq
  const specs = step.plan.specs.filter((s) => s.name !== 'evaluate')
  return specs.flatMap((s) => s.graph.calls.flatMap((c) => cut(pace, c).map((seconds) => ({ name: c.kernel.name, seconds }))))
}
function cut(p: Pace, c: Call): number[] {
  const uniforms = Object.fromEntries(Object.entries(c.uniforms).map(([k, d]) => [k, isLive(d) ? d.value : d]))
  const [x, y = 1, z = 1] = c.kernel.grid(uniforms, c.constants)
  if (x * y * z === 0) return []
  const seconds = estimate(p, c, uniforms)
  if (!c.kernel.split || seconds <= p.dispatch) return [seconds]
  const groups = c.kernel.split === 'x' ? x : y
  const each = pieceSize(p, seconds, groups)
  return Array.from({ length: Math.ceil(groups / each) }, (_, i) => (seconds * Math.min(each, groups - i * each)) / groups)
}
function submits(seconds: readonly number[]): number {
  let n = 1
  let sum = 0
  for (const s of seconds) {
    if (sum > 0 && sum + s > pace.submit) {
      n++
      sum = 0
    }
    sum += s
  }
  return n
}

test.each([
  ['smollm2-135m', 1, 128, 'fast', 3, GPU],
  ['smollm2-135m', 4, 256, 'fast', Infinity, GPU],
  ['qwen2.5-0.5b', 1, 4096, 'lean', Infinity, GPU],
  ['llama-3.2-1b', 4, 1024, 'checkpoint', Infinity, GPU],
  ['llama-3.2-1b', 4, 1024, 'checkpoint', Infinity, SUBGROUPS],
  ['llama-3.2-1b', 1, 8192, 'lean', Infinity, GPU],
] as const)('%s, %i x %i, %s', (name, batch, seq, policy, most, gpu) => {
  const made = dispatches(name, batch, seq, policy, gpu)
  const total = made.reduce((n, d) => n + d.seconds, 0)
  const worst = made.reduce((a, b) => (b.seconds > a.seconds ? b : a))
  const n = submits(made.map((d) => d.seconds))
  console.log(
    `${name} ${batch}x${seq}: ${made.length} dispatches, ${total.toFixed(1)} s at most, ${n} submits, longest ${worst.seconds.toFixed(2)} s (${worst.name})`,
  )
  expect(worst.seconds).toBeLessThanOrEqual(pace.dispatch)
  expect(n).toBeLessThanOrEqual(most)
  expect(n).toBeGreaterThanOrEqual(Math.ceil(total / pace.submit))
  expect(made.some((d) => d.name === 'matmul_sgk')).toBe(gpu === SUBGROUPS)
})

test('every product says what it computes and where it may be cut: by its bytes alone it would pass for short', () => {
  const without = Object.values<AnyKernel>(kernels).filter(
    ({ name, cost, split }) => /^matmul_(sgk|tile|any)$/.test(name) && !(cost && split),
  )
  expect(without.map((k) => k.name)).toEqual([])
})
