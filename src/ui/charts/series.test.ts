/** @file The point store, smoothing and estimates. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { StepRecord } from '../../train/run_config.ts'
import { PointSeries, recentMedian, smooth, smoothingWeight, timeLeft, tokensPerSecond } from './series.ts'

const record = (step: number, loss = step, ms = 10): StepRecord => ({ step, loss, grad_norm: 1, lr: 1e-3, tokens: 50, ms })

test('points come back as they were, past the first capacity', () => {
  const s = new PointSeries()
  for (let i = 1; i <= 1000; i++) s.push(record(i, 1 / i))
  expect(s.length).toBe(1000)
  expect(s.at(299)).toEqual(record(300, 1 / 300))
  expect(s.last()?.step).toBe(1000)
  expect(s.at(1000)).toBeUndefined()
  expect(s.smoothed()).toHaveLength(1000)
})

test('a run resumed from an earlier step replaces what came after it', () => {
  const s = new PointSeries([1, 2, 3, 4, 5].map((i) => record(i)))
  s.push(record(3, 30))
  expect([...s.column('step')]).toEqual([1, 2, 3])
  expect([...s.column('loss')]).toEqual([1, 2, 30])
})

test('subscribers hear of each push until they leave', () => {
  const s = new PointSeries()
  let heard = 0
  const leave = s.subscribe(() => heard++)
  s.push(record(1))
  leave()
  s.push(record(2))
  expect(heard).toBe(1)
  expect(s.version).toBe(2)
})

test('smoothing: a constant stays, the first value is the first point, the result lies between the extremes', () => {
  expect([...smooth([2, 2, 2], 0.9)].every((v) => Math.abs(v - 2) < 1e-12)).toBe(true)
  expect(smooth([5, 1], 0.9)[0]).toBeCloseTo(5, 12)
  // (0.5 × 0.5 × 4 + 0.5 × 2) / 0.75
  expect(smooth([4, 2], 0.5)[1]).toBeCloseTo(2 / 0.75, 12)
  fc.assert(
    fc.property(fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { minLength: 1 }), (values) => {
      const lo = Math.min(...values) - 1e-9
      const hi = Math.max(...values) + 1e-9
      return [...smooth(values, 0.93)].every((v) => v >= lo && v <= hi)
    }),
  )
})

test('smoothing skips what is not a number', () => {
  const out = smooth([1, NaN, 1], 0.9)
  expect([...out].map((v) => Number(v.toFixed(9)))).toEqual([1, 1, 1])
})

test('the weight grows with the run and stays below 1', () => {
  expect(smoothingWeight(1)).toBe(0.5)
  expect(smoothingWeight(400)).toBeCloseTo(0.95, 12)
  expect(smoothingWeight(1e6)).toBeCloseTo(0.99, 12)
})

test('time left is by the median of recent steps, so a slow first step does not count', () => {
  const s = new PointSeries([record(1, 1, 5000), record(2, 1, 10), record(3, 1, 12)])
  expect(timeLeft(s, 13)).toBe(10 * 12)
  expect(timeLeft(s, 3)).toBe(0)
  expect(timeLeft(new PointSeries(), 5)).toBeNull()
  expect(recentMedian(new Float64Array([9, 1, 3, 2]), 2)).toBe(2.5)
  expect(recentMedian(new Float64Array(), 2)).toBeNaN()
})

test('tokens a second', () => {
  expect(tokensPerSecond(new PointSeries([record(1), record(2)]))).toBe(5000)
  expect(tokensPerSecond(new PointSeries())).toBeNull()
})
