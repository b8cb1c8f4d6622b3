/** @file Formatting at the places where it could go wrong: unit borders, rounding up, signs, what is not a number. */
import { expect, test } from 'vitest'
import { ago, bytes, change, count, duration, group, loss3, percent, plural, sig3, stepTime } from './format.ts'

const plain = (s: string): string => s.replaceAll('\u00a0', ' ')

test.each([
  [0, '0'],
  [1, '1'],
  [0.0123456, '0.0123'],
  [0.00081, '8.1e-4'],
  [1e-3, '0.001'],
  [12.345, '12.3'],
  [123.6, '124'],
  [1940, '1,940'],
  [1944.4, '1,940'],
  [-3.14159, '-3.14'],
  [2.5e10, '2.5e10'],
  [NaN, '–'],
  [Infinity, '∞'],
])('sig3(%s) is %s', (x, text) => {
  expect(sig3(x)).toBe(text)
})

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1 kB'],
  [98_300_000, '98.3 MB'],
  [999_950_000, '1 GB'],
  [134_217_728, '134 MB'],
  [4_294_967_296, '4.29 GB'],
])('bytes(%s) is %s', (n, text) => {
  expect(plain(bytes(n))).toBe(text)
})

test.each([
  [817, '817'],
  [9999, '9,999'],
  [10_000, '10 k'],
  [55_296, '55.3 k'],
  [999_999, '1 M'],
  [2_442_240, '2.44 M'],
  [134_515_008, '135 M'],
])('count(%s) is %s', (n, text) => {
  expect(plain(count(n))).toBe(text)
})

test('plurals, percentages, groups', () => {
  expect(plural(1, 'row')).toBe('1 row')
  expect(plural(0, 'row')).toBe('0 rows')
  expect(plural(1200, 'entry', 'entries')).toBe('1,200 entries')
  expect(plain(percent(2_442_240, 134_515_008))).toBe('1.8 %')
  expect(plain(percent(1, 1))).toBe('100 %')
  expect(percent(1, 0)).toBe('–')
  expect(group(1234567)).toBe('1,234,567')
})

test('times', () => {
  expect(plain(stepTime(264.4))).toBe('264 ms')
  expect(plain(stepTime(1250))).toBe('1.25 s')
  expect(duration(300)).toBe('under 1 s')
  expect(plain(duration(99_400))).toBe('99 s')
  expect(plain(duration(120_000))).toBe('2 min')
  expect(plain(duration(3_900_000))).toBe('1 h 5 min')
  expect(plain(duration(59.7 * 60_000))).toBe('1 h')
  expect(duration(NaN)).toBe('–')
  const now = Date.parse('2026-05-02T12:00:00Z')
  expect(ago('2026-05-02T11:59:30Z', now)).toBe('just now')
  expect(plain(ago('2026-05-02T11:55:00Z', now))).toBe('5 min ago')
  expect(ago('2026-04-01T11:55:00Z', now)).toBe('2026-04-01')
})

test('a loss keeps its width; a change says its direction', () => {
  expect(loss3(3.4)).toBe('3.400')
  expect(loss3(12.3456)).toBe('12.35')
  expect(loss3(NaN)).toBe('–')
  expect(plain(change(-0.0312))).toBe('▾ 0.031')
  expect(plain(change(0.5))).toBe('▴ 0.50')
  expect(change(0.0001)).toBe('')
})
