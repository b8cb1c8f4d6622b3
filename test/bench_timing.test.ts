/** How often a call is measured, by what a call takes. */
import { expect, test } from 'vitest'
import { grown } from '../bench/peak_fma.ts'
import { callsFor, measure, type Run } from '../bench/timing.ts'

/** A call of `ms` after `submit` ms that any number of them take together; notes how many were asked for. */
function runOf(ms: number, submit = 0): { readonly run: Run; readonly asked: number[] } {
  const asked: number[] = []
  return { asked, run: async (times) => (asked.push(times), submit + times * ms) }
}

test.each([
  [0.01, 0, 4000],
  [0.1, 1, 590],
  [2, 0, 30],
  [50, 0, 1],
])('calls of %d ms with %d ms for the submit: %d of them fill 60 ms', async (ms, submit, calls) => {
  const { run, asked } = runOf(ms, submit)
  const found = await callsFor(run, 60)
  expect(found / calls).toBeGreaterThan(0.9)
  expect(found / calls).toBeLessThan(1.1)
  expect(asked[0]).toBe(1)
})

test('short calls get every round, each of many', async () => {
  const { run, asked } = runOf(0.5)
  expect(await measure(run, 7)).toEqual({ ms: 0.5, least: 0.5, rounds: 7 })
  expect(asked.slice(-7)).toEqual(Array.from({ length: 7 }, () => 120))
})

test('calls of seconds get three rounds, and none is thrown away', async () => {
  const { run, asked } = runOf(2000)
  expect(await measure(run, 7)).toEqual({ ms: 2000, least: 2000, rounds: 3 })
  expect(asked).toEqual([1, 1, 1])
})

test('a clock around the call where it has none of its own', async () => {
  const run: Run = () => new Promise((resolve) => setTimeout(resolve, 70))
  const { ms, rounds } = await measure(run, 3)
  expect(rounds).toBe(3)
  expect(ms).toBeGreaterThan(60)
})

test.each([
  // A software adapter's dispatch is long enough; a large GPU needs more groups to be filled, and more turns.
  [7, 1024, 512],
  [0.5, 4096, 512],
  [0.01, 16384, 512 * 13],
])('a dispatch of %d ms grows to %d groups of %d turns', (ms, groups, turns) => {
  expect(grown(ms)).toEqual({ groups, turns })
})
