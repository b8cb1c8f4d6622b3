/** @file How long a dispatch may keep a GPU busy. Operating systems reset a GPU that does not answer for some seconds (two on Windows), and the tab
 * loses its device: so work is estimated beforehand, by the slowest device class that is supported, and cut. Software adapters have no such limit. */
import type { TargetTraits } from './kernel.ts'

export interface Pace {
  /** Floating-point operations and bytes of memory a second. */
  readonly flops: number
  readonly bytes: number
  /** Seconds that one dispatch, and the dispatches of one submit, may take by these. */
  readonly dispatch: number
  readonly submit: number
}

/** Integrated graphics of 2015 on two channels of DDR3: 400 GFLOP/s and 25 GB/s on paper; a quarter of the one and most of the other are reached. */
const SLOWEST: Pace = { flops: 100e9, bytes: 20e9, dispatch: 0.5, submit: 2 }

/** What work is judged by on a device, or null where nothing watches. */
export const paceOf = (t: TargetTraits): Pace | null => (t.pace !== undefined ? t.pace : t.software ? null : SLOWEST)

/** Seconds by that pace, at most: whichever of computing and memory holds it up. */
export const secondsFor = (p: Pace, flops: number, bytes: number): number => Math.max(flops / p.flops, bytes / p.bytes)
