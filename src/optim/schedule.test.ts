/** Multipliers of Transformers' get_scheduler (test/golden/layer_ops.py), within rounding of double precision. */
import { expect, test } from 'vitest'
import cases from '../../test/golden/layer_ops/schedule.json'
import { rateAt, type Schedule } from './schedule.ts'

test.each(cases)('$schedule, warm-up $warmup of $total', ({ schedule, warmup, total, rates }) => {
  rates.forEach((rate, i) => {
    expect(rateAt(schedule as Schedule, i + 1, warmup, total)).toBeCloseTo(rate, 12)
  })
})
