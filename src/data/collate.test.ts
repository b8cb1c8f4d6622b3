/** @file The batcher: what is in a batch, in which order, and that a cursor resumes exactly. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BatchSource, collate, evalBatches, type Batch, type BatchOptions } from './collate.ts'
import { IGNORE } from './labels.ts'
import { packSequences } from './pack.ts'
import { hash32, permutation } from './shuffle.ts'
import { rowCount, type TokenRows } from './types.ts'

/** Row r of n tokens holds ids r * 1000 + 0 … n-1; the first `context` tokens have no label. */
function rowsOf(lengths: readonly number[], context = 1): TokenRows {
  const rows = lengths.map((n, r) => Array.from({ length: n }, (_, i) => r * 1000 + i))
  const offsets = Uint32Array.from([0, ...lengths.map((_, r) => lengths.slice(0, r + 1).reduce((a, b) => a + b, 0))])
  const labels = rows.flatMap((row) => row.map((id, i) => (i < context ? IGNORE : id)))
  return { ids: Int32Array.from(rows.flat()), labels: Int32Array.from(labels), offsets }
}
const OPTIONS: BatchOptions = { batch: 2, seq: 64, accum: 1, seed: 7, shuffle: false, pack: false }
const plain = (b: Batch): unknown => ({
  ...b,
  ids: [...b.ids],
  labels: [...b.labels],
  lengths: [...b.lengths],
  positions: [...b.positions],
  segmentStart: [...b.segmentStart],
})

describe('collate', () => {
  it('shifts labels, pads on the right and rounds T up to a multiple of 8', () => {
    const b = collate(rowsOf([3, 9], 2), [[0], [1]], 64)
    expect([b.B, b.T, [...b.lengths], b.labelled]).toEqual([2, 16, [3, 9], 1 + 7])
    expect([...b.ids.subarray(0, 5)]).toEqual([0, 1, 2, 0, 0])
    expect([...b.labels.subarray(0, 5)]).toEqual([IGNORE, 2, IGNORE, IGNORE, IGNORE])
    expect([...b.labels.subarray(16, 26)]).toEqual([IGNORE, 1002, 1003, 1004, 1005, 1006, 1007, 1008, IGNORE, IGNORE])
    expect([...b.positions.subarray(16, 26)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 0])
  })

  it('cuts at seq and asks nothing of the last position kept', () => {
    const b = collate(rowsOf([20]), [[0]], 10)
    expect([b.T, [...b.lengths], b.labelled]).toEqual([16, [10], 9])
    expect(b.labels[8]).toBe(9)
    expect(b.labels[9]).toBe(IGNORE)
  })

  it('packs without training across rows, and positions and segments start again', () => {
    const b = collate(rowsOf([3, 4], 0), [[0, 1]], 8)
    expect([...b.labels]).toEqual([1, 2, IGNORE, 1001, 1002, 1003, IGNORE, IGNORE])
    expect([...b.positions]).toEqual([0, 1, 2, 0, 1, 2, 3, 0])
    expect([...b.segmentStart]).toEqual([0, 0, 0, 3, 3, 3, 3, 7])
    expect(b.labelled).toBe(5)
  })

  it('an id equal to the pad id 0 is a token like any other', () => {
    const data: TokenRows = { ids: Int32Array.of(5, 0, 0), labels: Int32Array.of(5, 0, 0), offsets: Uint32Array.of(0, 3) }
    const b = collate(data, [[0]], 8)
    expect([...b.labels.subarray(0, 4)]).toEqual([0, 0, IGNORE, IGNORE])
    expect(b.lengths[0]).toBe(3)
  })
})

describe('BatchSource', () => {
  it('without shuffling takes rows in file order and wraps inside a batch', () => {
    const source = new BatchSource(rowsOf([2, 2, 2]), OPTIONS)
    expect([source.next().rows, source.next().rows, source.next().rows]).toEqual([
      [0, 1],
      [2, 0],
      [1, 2],
    ])
  })

  it('a step is batch × accum rows', () => {
    const source = new BatchSource(rowsOf([2, 2, 2, 2, 2]), { ...OPTIONS, accum: 2 })
    expect(source.step().map((b) => b.rows)).toEqual([
      [0, 1],
      [2, 3],
    ])
    expect(source.stepsPerEpoch).toBe(2)
  })

  it('shuffled: every epoch has each row once, in another order; the seed decides', () => {
    const epochOf = (seed: number): number[][] => {
      const source = new BatchSource(rowsOf(Array.from({ length: 20 }, () => 2)), { ...OPTIONS, batch: 20, shuffle: true, seed })
      return [[...source.next().rows], [...source.next().rows]]
    }
    const [a, b] = epochOf(1)
    expect(a?.toSorted((x, y) => x - y)).toEqual(Array.from({ length: 20 }, (_, i) => i))
    expect(a).not.toEqual(b)
    expect(epochOf(1)).toEqual([a, b])
    expect(epochOf(2)[0]).not.toEqual(a)
  })

  it('resumes from any cursor with exactly the batches that would have followed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 2, max: 40 }), { minLength: 1, maxLength: 30 }),
        fc.record({
          batch: fc.integer({ min: 1, max: 5 }),
          seq: fc.integer({ min: 2, max: 48 }),
          seed: fc.nat(),
          shuffle: fc.boolean(),
          pack: fc.boolean(),
        }),
        fc.nat(25),
        (lengths, o, skip) => {
          const data = rowsOf(lengths)
          const options = { ...o, accum: 1 }
          const one = new BatchSource(data, options)
          for (let i = 0; i < skip; i++) one.next()
          const two = new BatchSource(data, options, JSON.parse(JSON.stringify(one.cursor)) as typeof one.cursor)
          for (let i = 0; i < 4; i++) expect(plain(two.next())).toEqual(plain(one.next()))
        },
      ),
      { numRuns: 200 },
    )
  })

  it('refuses data whose labels are all beyond the cut', () => {
    expect(() => new BatchSource(rowsOf([20], 10), { ...OPTIONS, seq: 10 })).toThrow(/no token is trained: cut at 10/)
    expect(new BatchSource(rowsOf([20], 10), { ...OPTIONS, seq: 11 }).next().labelled).toBe(1 + 1)
  })

  it('refuses an empty data set and a damaged cursor', () => {
    expect(() => new BatchSource(rowsOf([]), OPTIONS)).toThrow(/no row to train on/)
    expect(() => new BatchSource(rowsOf([3]), OPTIONS, { epoch: -1, index: 0 })).toThrow(/cursor is damaged/)
  })
})

describe('packing', () => {
  it('keeps every row once, whole, within seq, and never opens more than it must', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 200 }), fc.integer({ min: 2, max: 64 }), (lengths, seq) => {
        const data = rowsOf(lengths)
        const packed = packSequences(data, permutation(lengths.length, 3, 0), seq)
        expect(packed.flat().toSorted((a, b) => a - b)).toEqual(lengths.map((_, i) => i))
        const fill = packed.map((rows) => rows.reduce((n, r) => n + Math.min(lengths[r] ?? 0, seq), 0))
        expect(fill.every((n) => n <= seq)).toBe(true)
        // Any two sequences of one small set together hold more than seq, or they would have been one.
        if (lengths.length <= 32) for (let i = 1; i < fill.length; i++) expect((fill[i - 1] ?? 0) + (fill[i] ?? 0)).toBeGreaterThan(seq)
      }),
    )
  })
})

describe('evalBatches', () => {
  it('gives each row with a label left once, in order', () => {
    const data = rowsOf([5, 3, 9, 4], 3)
    expect([...evalBatches(data, 2, 64)].map((b) => b.rows)).toEqual([[0, 2], [3]])
    expect([...evalBatches(data, 2, 3)]).toEqual([])
    expect(rowCount(data)).toBe(4)
  })
})

describe('shuffle', () => {
  it('is a permutation, and each place is reached about equally often', () => {
    const n = 8
    const counts = new Uint32Array(n * n)
    for (let s = 0; s < 8000; s++) permutation(n, s, 0).forEach((v, i) => counts[i * n + v]++)
    // Expected 1000 each, standard deviation 30: five of them.
    for (const c of counts) expect(Math.abs(c - 1000)).toBeLessThan(150)
  })
  it('streams differ', () => {
    expect(hash32(1, 0, 0)).not.toBe(hash32(1, 1, 0))
    expect([...permutation(10, 1, 0)]).not.toEqual([...permutation(10, 1, 1)])
  })
})
