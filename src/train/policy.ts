/** @file Which activations a run keeps, which it computes again, and the choice between them by what fits. */
import { OptionError } from '../errors.ts'
import type { GpuTraits } from '../gpu/device.ts'
import type { TargetTraits } from '../tensor/graph.ts'
import type { FixedPolicy, RunOptions } from './run_config.ts'
import { type Keeping, type StepOptions, type Tunable, TrainStep } from './step.ts'

const GIB = 2 ** 30
/**
 * Bytes a run may plan for. WebGPU does not tell how much memory a device has, only its largest buffer, which drivers keep well below all of it: four times
 * that, and at least 1 GiB. What is let through is checked again as it is made.
 */
export const memoryBudget = (traits: Pick<GpuTraits, 'maxBufferSize'>): number => Math.max(GIB, 4 * traits.maxBufferSize)

/** Blocks between the checkpoints that `lean` tries: with more, fewer inputs are kept, and more is computed again at a time. */
const LEAN_EVERY = [1, 2, 3, 4]
/** Rows of logits that `lean` has at once. */
const LEAN_HEAD_ROWS = 32

/** The forms of a policy; of several, the one with the smallest plan is meant. */
function formsOf(policy: FixedPolicy, half: boolean): Keeping[] {
  const plain = { policy, recompute: false, checkpointEvery: null, headRows: null, half }
  switch (policy) {
    case 'fast':
      return [plain]
    case 'recompute':
      return [{ ...plain, recompute: true }]
    case 'checkpoint':
      return [{ ...plain, checkpointEvery: 1 }]
    case 'lean':
      return LEAN_EVERY.map((checkpointEvery) => ({ ...plain, checkpointEvery, headRows: LEAN_HEAD_ROWS }))
  }
}

export type PolicyOptions = StepOptions & Pick<RunOptions, 'policy' | 'activation_dtype'> & Partial<Pick<RunOptions, 'pack'>>

/** The step under one policy. */
export function stepOf(t: Tunable, run: PolicyOptions, target: TargetTraits, policy: FixedPolicy): TrainStep {
  const steps = formsOf(policy, run.activation_dtype === 'f16').map((k) => new TrainStep(t, run, target, k))
  const least = Math.min(...steps.map((s) => s.plan.total))
  // Forms stand in order of the time they take: a hundredth of the memory is not worth more of it.
  return steps.find((s) => s.plan.total <= 1.01 * least)!
}

/** From what costs least time to what costs most. */
export const BY_COST = ['fast', 'recompute', 'checkpoint', 'lean'] as const

/** The step of a run: under its policy, or for `auto` under the first whose plan fits `budget` bytes with every activation in one binding (the leanest, if none does).
 * Throws OptionError for options that do not go together. */
export function planStep(t: Tunable, run: PolicyOptions, target: TargetTraits, budget: number): TrainStep {
  if (run.pack && t.adapter?.virtualTokens)
    throw new OptionError('virtual tokens cannot stand before packed rows', {
      where: 'pack',
      why: 'they are put before a sequence, and only its first row would see them',
      fix: 'Turn packing off, or choose another method',
    })
  if (run.policy !== 'auto') return stepOf(t, run, target, run.policy)
  let step: TrainStep | null = null
  for (const policy of BY_COST) {
    step = stepOf(t, run, target, policy)
    if (step.plan.total <= budget && Math.max(0, ...step.plan.arena) <= target.maxBindingSize) break
  }
  return step!
}

/** The step under each policy, from what costs least time, beside `known`, which is one of them; and its floating-point operations as a multiple of what `fast` takes. */
export function stepsByCost(
  t: Tunable,
  run: PolicyOptions,
  target: TargetTraits,
  known: TrainStep,
): { readonly step: TrainStep; readonly arithmetic: number }[] {
  const steps = BY_COST.map((policy) => (policy === known.keeping.policy ? known : stepOf(t, run, target, policy)))
  const [least] = steps.map((s) => s.operations)
  return steps.map((step) => ({ step, arithmetic: step.operations / least }))
}
