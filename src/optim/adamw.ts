/** @file AdamW as a run uses it: which constants, and the calls of a whole optimizer step over the trained buffers. */
import { adamwStep, adamw8bitStep, type AdamWOptions, type FlatState, type FlatState8bit, gradNorm } from '../autograd/ops/optimizer.ts'

/** Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, section 2; also torch's and Transformers' defaults. */
export const ADAMW_DEFAULTS = { beta1: 0.9, beta2: 0.999, eps: 1e-8 } as const

/** Everything after the gradient: norm and clip over all buffers together, then each buffer's update, then the gradients zeroed for the next step.
 * `clip` 0 is off; a `loss` that is not finite skips the update, as such a gradient does. Writes `stats` (see STATS in autograd/ops/optimizer.ts). 2 dispatches a buffer and one more. */
export function optimizerStep(
  states: readonly (FlatState | FlatState8bit)[],
  stats: FlatState['param'],
  o: Pick<AdamWOptions, 'lr' | 'step' | 'weightDecay'> & { readonly clip: AdamWOptions['lr']; readonly loss?: FlatState['param'] },
): void {
  gradNorm(
    states.map((s) => s.grad),
    o.clip,
    stats,
    o.loss,
  )
  const adam = { ...ADAMW_DEFAULTS, lr: o.lr, step: o.step, weightDecay: o.weightDecay, clear: true }
  for (const s of states)
    if ('kind' in s) adamw8bitStep(s, stats, adam)
    else adamwStep(s, stats, adam)
}
