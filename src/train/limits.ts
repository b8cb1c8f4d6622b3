/** @file What of a planned run a device cannot hold in one piece, known before anything is made. */
import { GpuError } from '../errors.ts'
import { type Gpu, type GpuTraits, targetOf } from '../gpu/device.ts'
import type { SessionPlan } from '../tensor/program.ts'
import { memoryBudget, planStep, type PolicyOptions } from './policy.ts'
import type { Tunable, TrainStep } from './step.ts'

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`

/** The first buffer of a plan that is larger than the device allows, or null. Weights, trained values and their states are bound whole, as activations are. */
export function tooLarge(
  plan: SessionPlan,
  traits: Pick<GpuTraits, 'maxBufferSize' | 'maxBindingSize'>,
): { readonly what: string; readonly where: string } | null {
  const most = Math.min(traits.maxBufferSize, traits.maxBindingSize)
  const large = [...plan.storages].find((s) => s.bytes > most)
  if (large) return { what: `a buffer of ${mib(large.bytes)} is more than this device can bind at once (${mib(most)})`, where: large.label }
  const arena = Math.max(0, ...plan.arena)
  return arena > most ? { what: `an activation takes ${mib(arena)}, and one buffer may hold ${mib(most)}`, where: 'activations' } : null
}

/** The step of a run as it will be begun on a device. Throws GpuError, before anything is made, for what the device cannot hold in one piece. */
export function makeableStep(gpu: Gpu, t: Tunable, run: PolicyOptions): TrainStep {
  const step = planStep(t, run, targetOf(gpu.traits), memoryBudget(gpu.traits))
  const too = tooLarge(step.plan, gpu.traits)
  if (!too) return step
  throw new GpuError(too.what, {
    where: too.where,
    why: 'A kernel would see only a part of it',
    fix: 'Use a smaller batch, shorter rows, the policy auto or lean, or a GPU with larger bindings',
  })
}
