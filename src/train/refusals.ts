/** @file What is said where the GPU has no room, by the class of memory that it refused, and what a run that may choose does instead. */
import type { Refusal } from '../gpu/trial.ts'
import type { MemoryClass, TargetTraits } from '../tensor/graph.ts'
import { BY_COST, type PolicyOptions, stepOf } from './policy.ts'
import type { Tunable, TrainStep } from './step.ts'

const SMALLER = 'Use a smaller batch with more accumulation, shorter rows, or recompute activations'
/** What each class of memory is called, and what makes it smaller. */
const ROOM: Readonly<Record<MemoryClass, { readonly what: string; readonly fix: string }>> = {
  weights: { what: 'the weights', fix: 'Keep the frozen weights in 4 or 8 bits (base nf4 or q8), or use a smaller model' },
  adapter: { what: 'the trained parameters and their gradients', fix: 'Use a lower rank, fewer layers, or a method that trains less' },
  optimizer: { what: "the optimizer's states", fix: 'Keep the optimizer in 8 bits, or use a method that trains less' },
  activations: { what: 'the activations', fix: SMALLER },
  head: { what: "the loss head's logits", fix: SMALLER },
  batch: { what: 'the batch', fix: SMALLER },
}
const ADAPT = 'Train an adapter beside frozen weights (lora) instead of every weight (full), or use a smaller model'
/** The same where a method trains the weights themselves: they cannot be kept in fewer bits. */
const ROOM_IN_FULL: typeof ROOM = {
  ...ROOM,
  weights: { what: 'the weights, which are trained as f32', fix: ADAPT },
  adapter: { what: 'the gradients of all weights', fix: ADAPT },
  optimizer: { what: "the optimizer's states of all weights", fix: `Keep the optimizer in 8 bits (adamw_8bit). ${ADAPT}` },
}

const megabytes = (n: number): string => (n / 1e6).toFixed(1)

/** @param bytes of the class, and what they are part of: the whole plan, where it is known.
 *  @param trainsWeights every weight of the model is trained */
export function refusalOf(memory: MemoryClass, bytes: number, o: { readonly total?: number; readonly trainsWeights: boolean }): Refusal {
  const { what, fix } = (o.trainsWeights ? ROOM_IN_FULL : ROOM)[memory]
  return {
    what: `${what} (${megabytes(bytes)} MB${o.total === undefined ? '' : ` of ${megabytes(o.total)}`})`,
    where: `GPU memory, ${memory}`,
    fix: `${fix}; close other tabs that use the GPU`,
  }
}

/** The step under the next policy that takes less memory, with what to say about it; null where `step` is the leanest. */
export function leanerStep(
  step: TrainStep,
  t: Tunable,
  run: PolicyOptions,
  target: TargetTraits,
): { step: TrainStep; note: string } | null {
  const refused = step.keeping.policy
  for (const policy of BY_COST.slice(BY_COST.indexOf(refused) + 1)) {
    const next = stepOf(t, run, target, policy)
    if (next.plan.total >= step.plan.total) continue
    const [from, to] = [step, next].map((s) => megabytes(s.plan.total))
    return {
      step: next,
      note: `The GPU has no room for policy ${refused} (${from} MB): auto goes on with ${policy} (${to} MB), which computes more and keeps less.`,
    }
  }
  return null
}
