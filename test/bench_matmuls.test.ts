/** What makes the bench refuse a figure of a product. */
import { expect, test } from 'vitest'
import { shortfall } from '../bench/matmuls.ts'

test('products that were not dispatched have no figure', () => {
  expect(shortfall({ times: 40, single: 1, fewest: 40 })).toBeNull()
  // Reading an element back is a dispatch of its own; a product may take several.
  expect(shortfall({ times: 40, single: 2, fewest: 41 })).toBeNull()
  expect(shortfall({ times: 40, single: 2, fewest: 80 })).toBeNull()
  expect(shortfall({ times: 1, single: 1, fewest: 1 })).toBeNull()
  // The last one alone; one too few beside the reading; a product of the CPU.
  expect(shortfall({ times: 40, single: 1, fewest: 1 })).toBe('1 dispatches for 40 products, 1 for one: no figure')
  expect(shortfall({ times: 40, single: 2, fewest: 40 })).not.toBeNull()
  expect(shortfall({ times: 1, single: 0, fewest: 0 })).not.toBeNull()
})
