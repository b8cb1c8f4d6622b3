/** The bench's weights: as large as their format's layout says, with values that make products worth comparing. */
import { expect, test } from 'vitest'
import { BENCH_FORMATS, benchWeight } from '../bench/weights.ts'
import { isPacked, WEIGHT_FORMATS, weightBytes } from '../src/kernels/weight_formats.ts'

test('every format that packs weights is measured', () => {
  expect([...BENCH_FORMATS].sort()).toEqual(WEIGHT_FORMATS.filter((f) => isPacked(f) || f === 'f32' || f === 'f16').sort())
})

test.each(BENCH_FORMATS)('%s', (format) => {
  const [rows, cols] = [64, 512]
  const { data, scales, values } = benchWeight(format, rows * cols, 5)
  const size = weightBytes(format, rows, cols)
  expect([data.byteLength, scales?.byteLength ?? 0]).toEqual([size.data, size.scales])
  expect(values).toHaveLength(rows * cols)
  // Within an order of magnitude of uniform values up to 1, whose mean square is 1/3; blocks with an offset have more.
  const square = values.reduce((sum, v) => sum + v * v, 0) / values.length
  expect(square).toBeGreaterThan(0.1)
  expect(square).toBeLessThan(2)
})
