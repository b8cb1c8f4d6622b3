/** @file What the studio adds to a run, as declared options: the form is rendered from this, the values go into RunExtras. */
import { bool, int } from '../options.ts'

export const EXTRA_OPTIONS = {
  evalEvery: int({
    label: 'Evaluate every',
    help: 'Steps between looks at the held-out rows; 0 is never.',
    default: 20,
    min: 0,
    max: 1_000_000,
  }),
  patience: int({ label: 'Stop early after', help: 'Evaluations without a better loss; 0 is never.', default: 0, min: 0, max: 10_000 }),
  sampleEvery: int({
    label: 'Sample every',
    help: 'Steps between samples of the prompts below; 0 is only before and after.',
    default: 50,
    min: 0,
    max: 1_000_000,
  }),
  sampleTokens: int({ label: 'Sample length', help: 'Tokens generated for each prompt.', default: 48, min: 1, max: 2048 }),
  checkpointEvery: int({
    label: 'Checkpoint every',
    help: 'Steps between stored checkpoints; 0 is only on pause and when the page is hidden.',
    default: 50,
    min: 0,
    max: 1_000_000,
  }),
  keepBest: bool({ label: 'Keep the best', help: 'End with the adapter that had the lowest held-out loss.', default: true }),
} as const
