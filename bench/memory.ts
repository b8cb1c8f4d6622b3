/** @file GPU memory of LoRA on real shapes with a 4-bit base, policy by policy: planned for each, and allocated by the leanest and the fastest, in which no weight is read. */
import llama from '../test/configs/llama-3.2-1b.json'
import qwen from '../test/configs/qwen2.5-0.5b.json'
import smollm from '../test/configs/smollm2-135m.json'
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import { openBundle } from '../src/train/bundle.ts'
import { BY_COST, stepOf } from '../src/train/policy.ts'
import { randomModel } from '../src/train/random_model.ts'
import { Trainer } from '../src/train/trainer.ts'
import { findMethod, TunableLayout } from '../src/train/tunable.ts'
import { peakBytes, setOwner } from './counters.ts'
import { RANK, TRAINING } from './lora.ts'
import { type Row, type Say, withoutTime } from './report.ts'

const MODELS = { 'SmolLM2-135M': smollm, 'Qwen2.5-0.5B': qwen, 'Llama-3.2-1B': llama }
const RUN = { batch: 1, seq: 512, ...TRAINING } as const

export async function benchMemory(gpu: Gpu, say: Say): Promise<Row[]> {
  const rows: Row[] = []
  for (const [model, config] of Object.entries(MODELS)) {
    const bundle = openBundle(randomModel(config, model))
    for (const policy of BY_COST) {
      const { maxBindingSize } = gpu.traits
      const base = { base: 'nf4', seed: 0, trainable: true, maxBindingSize } as const
      const tunable = new TunableLayout(bundle, findMethod('lora'), { r: RANK, alpha: 2 * RANK }, base)
      const run = { ...RUN, policy }
      const owner = `memory ${model} ${policy}`
      setOwner(owner)
      const { plan, dispatches } = stepOf(tunable, run, targetOf(gpu.traits), policy)
      // Every buffer is made, though nothing is written to those of the weights.
      const made = policy === 'fast' || policy === 'lean'
      if (made) (await Trainer.create(gpu, tunable, run)).destroy()
      tunable.destroy()
      const { batch, seq } = RUN
      const allocated = made ? peakBytes(owner) : null
      say(
        `${model}, ${policy}: ${(plan.total / 1e6).toFixed(0)} MB planned${allocated ? `, ${(allocated / 1e6).toFixed(0)} MB allocated` : ''}`,
      )
      const sizes = { batch, seq, rank: RANK, base: base.base, policy, by_class: plan.bytes }
      rows.push(withoutTime('memory', { model, ...sizes, dispatches, planned_bytes: plan.total, allocated_bytes: allocated }))
    }
  }
  return rows
}
