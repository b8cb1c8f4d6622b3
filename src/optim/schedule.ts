/** @file Learning-rate schedules, as Transformers' get_scheduler (src/transformers/optimization.py): a multiplier of the base rate for each optimizer step. */

export type Schedule = 'constant' | 'linear' | 'cosine'

/** Shape after the warm-up, `span` steps long (at least 1): from how many of them are done and how many are left. */
const SHAPES: Readonly<Record<Schedule, (done: number, left: number, span: number) => number>> = {
  constant: () => 1,
  linear: (_, left, span) => left / span,
  cosine: (done, _, span) => 0.5 * (1 + Math.cos((Math.PI * done) / span)),
}

/** Multiplier in optimizer step `step` (from 1) of `total`. It rises linearly over `warmup` steps, starting from 0 in the first. */
export function rateAt(schedule: Schedule, step: number, warmup: number, total: number): number {
  const done = step - 1
  if (done < warmup) return done / warmup
  return Math.max(0, SHAPES[schedule](done - warmup, total - done, Math.max(1, total - warmup)))
}
