/** @file How long a call takes on the GPU: so many calls at once that the wait for the GPU is little beside them, in rounds. */
import { median } from './report.ts'

/** Runs something `times` times and waits for the last. Resolves to the milliseconds from the submit to the end where it measures them itself: a clock around
 * it counts the recording of commands, too. */
export type Run = (times: number) => Promise<number | void>

/** A measurement is at least about this long: one call alone is mostly the wait for the GPU. In milliseconds. */
const MEASURE_MS = 60
/** Rounds beyond the fewest are left out where they would take longer than this, in milliseconds. */
const ROUNDS_MS = 3000
const FEWEST_ROUNDS = 3
const MOST_CALLS = 4000

export interface Measured {
  /** Of one call: median and least of the rounds. */
  readonly ms: number
  readonly least: number
  readonly rounds: number
}

async function take(run: Run, times: number): Promise<number> {
  const began = performance.now()
  return (await run(times)) ?? performance.now() - began
}

/** How many calls fill about `target` milliseconds, and what one of them took among as many as were tried last. */
async function fill(run: Run, target: number): Promise<{ readonly times: number; readonly ms: number }> {
  for (let times = 1; ;) {
    const ms = await take(run, times)
    const wanted = Math.max(1, Math.min(MOST_CALLS, Math.round((times * target) / ms)))
    // From few calls no more than a guess can be made of many: what the submit itself takes is in all of them.
    if (ms >= target / 2 || wanted <= times) return { times: wanted, ms: ms / times }
    times = Math.min(wanted, 16 * times)
  }
}

/** How many calls fill about `target` milliseconds, after one to warm up. */
export async function callsFor(run: Run, target: number): Promise<number> {
  await run(1)
  return (await fill(run, target)).times
}

/** Milliseconds of a call that was made before, in as many rounds as are asked for; calls of a second or more get fewer, at least 3. */
export async function measure(run: Run, rounds: number): Promise<Measured> {
  const { times, ms: first } = await fill(run, MEASURE_MS)
  const each = times === 1 ? [first] : []
  let spent = times === 1 ? first : 0
  while (each.length < rounds && (each.length < FEWEST_ROUNDS || spent < ROUNDS_MS)) {
    const ms = await take(run, times)
    spent += ms
    each.push(ms / times)
  }
  return { ms: median(each), least: Math.min(...each), rounds: each.length }
}
