/** @file The prompts that are watched during a run: how they are written, and how many tokens one takes with its answer. */
import type { RunExtras } from '../../train/run_config.ts'
import type { Tunable } from '../../train/step.ts'
import type { LoadedModel } from './model.ts'
import { answerTokens, promptOf } from './writing.ts'

/** Tokens that the longest watched prompt and its answer take on a layout; 0: none is watched. */
export type Watched = (t: Tunable) => number

export const NOTHING: Watched = () => 0

/** The chat template that watched prompts are written with; null: they are plain text. */
export const watchedTemplate = (model: LoadedModel, { sampleTemplate }: RunExtras): string | null =>
  sampleTemplate === undefined ? (model.tokenizer?.chatTemplate ?? null) : sampleTemplate

/** Nothing where there is no tokenizer to write with. Throws DataError where the template refuses a prompt; the result throws RunError where one leaves no room. */
export function watchedBy(model: LoadedModel, extras: RunExtras): Watched {
  if (!model.tokenizer) return NOTHING
  const template = watchedTemplate(model, extras)
  const lengths = extras.samplePrompts.map((prompt) => promptOf(model, prompt, template).ids.length)
  return (t) => Math.max(0, ...lengths.map((n) => n + answerTokens(model, t, n, extras.sampleTokens)))
}
