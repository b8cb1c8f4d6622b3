/** @file Readers of data files: round trips, any chunk size gives the same rows, any bytes give rows or a DataError, memory stays bounded. */
import fc from 'fast-check'
import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import Papa from 'papaparse'
import { describe, expect, it } from 'vitest'
import { EtudeError } from '../../errors.ts'
import type { ByteSource } from '../../io/source.ts'
import { fromBytes } from '../../io/sources.ts'
import { readCsv } from './csv.ts'
import { readJson } from './json.ts'
import { readJsonl } from './jsonl.ts'
import { openRows } from './read.ts'
import type { ParsedRow, RowOptions } from './row.ts'
import { MAX_ROW_BYTES, readLines } from './text.ts'
import { readTxt } from './txt.ts'

const source = (text: string | Uint8Array, name = 'x.jsonl'): ByteSource =>
  fromBytes(name, typeof text === 'string' ? new TextEncoder().encode(text) : text)
const all = async <T>(batches: AsyncGenerator<T[]>): Promise<T[]> => {
  const out: T[] = []
  for await (const batch of batches) out.push(...batch)
  return out
}
const values = (rows: readonly ParsedRow[]): unknown[] => rows.map((r) => ('row' in r ? r.row : r.bad))
const utf16 = (text: string, littleEndian: boolean): Uint8Array => {
  const out = new DataView(new ArrayBuffer(2 + 2 * text.length))
  out.setUint16(0, 0xfeff, littleEndian)
  for (let i = 0; i < text.length; i++) out.setUint16(2 + 2 * i, text.charCodeAt(i), littleEndian)
  return new Uint8Array(out.buffer)
}
/** A row as JSON holds it: an object with any fields. */
const row = fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 8 }), fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4 }).filter((o) => !('__proto__' in o)).map((o) => JSON.parse(JSON.stringify(o)) as object) // prettier-ignore
const chunk = fc.integer({ min: 1, max: 40 }).map((n) => 2 * n)
const cell = fc.string({ unit: fc.constantFrom('a', 'é', '日', ' ', '"', ',', '\n', ';', '🎉'), maxLength: 6 })

describe('round trips, whatever the chunk size', () => {
  it('JSON Lines', () =>
    fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1 }), chunk, async (rows, size) => {
        const read = await all(readJsonl(source(rows.map((r) => JSON.stringify(r)).join('\n')), { chunk: size }))
        expect(values(read)).toEqual(rows)
        expect(read.map((r) => r.line)).toEqual(rows.map((_, i) => i + 1))
      }),
    ))

  it('a JSON list, in one line or many', () =>
    fc.assert(
      fc.asyncProperty(fc.array(row), chunk, fc.constantFrom(0, 1, 3), async (rows, size, indent) => {
        expect(values(await all(readJson(source(JSON.stringify(rows, null, indent)), { chunk: size })))).toEqual(rows)
      }),
    ))

  it('an object with a list of rows in it', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(row, { minLength: 1 }),
        fc.jsonValue({ maxDepth: 1 }),
        chunk,
        fc.constantFrom(0, 2),
        async (rows, other, size, indent) => {
          fc.pre(!Array.isArray(other) && !(typeof other === 'object' && other && Object.values(other).some(Array.isArray)))
          expect(
            values(await all(readJson(source(JSON.stringify({ other, rows, after: [1, { a: 2 }] }, null, indent)), { chunk: size }))),
          ).toEqual(rows)
        },
      ),
    ))

  it('objects one after another, over several lines each', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          row.map((r) => ({ prompt: 'x', ...r })),
          { minLength: 1 },
        ),
        chunk,
        async (rows, size) => {
          // A field whose value is a list of objects would be taken for the list of rows.
          fc.pre(rows.every((r) => Object.values(r).every((v) => !Array.isArray(v))))
          expect(values(await all(readJson(source(rows.map((r) => JSON.stringify(r, null, 1)).join('\n')), { chunk: size })))).toEqual(rows)
        },
      ),
    ))

  it('CSV, with the line each record starts on', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(cell, cell, cell), { minLength: 1 }),
        fc.constantFrom(',', '\t', ';'),
        chunk,
        async (records, delimiter, size) => {
          const kept = records.filter((r) => r.some((f) => f.trim()))
          const text = Papa.unparse([['a', 'b', 'c'], ...kept], { delimiter, newline: '\n', quotes: true })
          const read = await all(readCsv(source(text), delimiter, { chunk: size }))
          expect(values(read)).toEqual(kept.map(([a, b, c]) => ({ a, b, c })))
          let line = 2
          for (const [i, record] of kept.entries()) {
            expect(read[i]?.line).toBe(line)
            line += record.join('').split('\n').length
          }
        },
      ),
    ))

  it('lines in UTF-8 and UTF-16 of either order, ending in \\n, \\r\\n or \\r', () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: fc.constantFrom('a', 'é', 'Ċ', 'ഊ', '日', '🎉', ' ') }), { minLength: 1 }), fc.constantFrom('\n', '\r\n', '\r'), fc.constantFrom('utf-8', 'le', 'be'), chunk, async (lines, end, encoding, size) => {
        const text = lines.join(end)
        const bytes = encoding === 'utf-8' ? new TextEncoder().encode(text) : utf16(text, encoding === 'le')
        const read = await all(readLines(source(bytes), { chunk: size }))
        // An empty last line is no line.
        expect(read.map((l) => l.text)).toEqual(lines.at(-1) === '' ? lines.slice(0, -1) : lines)
        expect(read.every((l, i) => l.problem === null && l.line === i + 1)).toBe(true)
      }),
    )) // prettier-ignore

  it('paragraphs and lines of plain text', async () => {
    const text = 'one\ntwo\n\n \nthree\n'
    expect(await all(readTxt(source(text), 'paragraphs', { chunk: 2 }))).toEqual([
      { line: 1, row: { text: 'one\ntwo' } },
      { line: 5, row: { text: 'three' } },
    ])
    expect(values(await all(readTxt(source(text), 'lines', { chunk: 2 })))).toEqual(['one', 'two', 'three'].map((t) => ({ text: t })))
  })
})

const FIXTURES = resolve(import.meta.dirname, '../../../test/fixtures/data')
const fixtures = ['good', 'broken'].flatMap((d) =>
  readdirSync(resolve(FIXTURES, d)).map((f) => ({ name: f, bytes: new Uint8Array(readFileSync(resolve(FIXTURES, d, f))) })),
)

/** Reads all of a file; fails on anything but rows in order or an error made for people. */
async function survives(bytes: Uint8Array, name: string, options: RowOptions): Promise<void> {
  try {
    let before = 0
    for await (const batch of (await openRows(source(bytes, name))).rows(options))
      for (const r of batch) {
        expect(r.line).toBeGreaterThanOrEqual(before)
        before = r.line
        expect('row' in r ? typeof r.row : r.bad).toBeTruthy()
      }
  } catch (e) {
    if (!(e instanceof EtudeError)) throw e
    expect(e.where).toContain(name)
  }
}

describe('any bytes give rows or an error made for people', () => {
  const names = fc.constantFrom('x.jsonl', 'x.json', 'x.csv', 'x.tsv', 'x.txt', 'x.parquet', 'x')
  it('random bytes', () =>
    fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), names, chunk, (bytes, name, size) =>
        survives(bytes, name, { chunk: size }),
      ),
      { numRuns: 1000 },
    ))
  it('text of structure characters', () =>
    fc.assert(
      fc.asyncProperty(fc.string({ unit: fc.constantFrom(...Array.from('{}[]",:\\\n\r \t;1ae')), maxLength: 60 }), names, chunk, (text, name, size) => survives(new TextEncoder().encode(text), name, { chunk: size })),
      { numRuns: 2000 },
    )) // prettier-ignore
  it('fixtures with bytes changed, cut or repeated', () =>
    fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...fixtures),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
        fc.nat(),
        chunk,
        async ({ name, bytes }, edits, cut, size) => {
          const changed = bytes.slice(0, cut % 4 === 0 ? cut % (bytes.length + 1) : bytes.length)
          for (const [at, value] of edits) if (changed.length) changed[at % changed.length] = value
          await survives(changed, name, { chunk: size })
        },
      ),
      { numRuns: 1500 },
    ))
})

/** A file of `size` bytes made as it is read. */
const endless = (name: string, size: number, start: string, end: string): ByteSource => ({
  name,
  size,
  read: (offset, length) => {
    const bytes = new Uint8Array(length).fill(0x61)
    for (const [text, at] of [[start, 0], [end, size - end.length]] as const) for (let i = 0; i < text.length; i++) if (at + i >= offset && at + i < offset + length) bytes[at + i - offset] = text.charCodeAt(i)
    return Promise.resolve(bytes)
  },
}) // prettier-ignore

describe('rows too long', () => {
  const peak = async <T>(work: () => Promise<T>): Promise<{ value: T; grown: number }> => {
    const before = process.memoryUsage().rss
    let most = before
    const timer = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20)
    const value = await work()
    clearInterval(timer)
    return { value, grown: Math.max(most, process.memoryUsage().rss) - before }
  }

  it('a line of 1 GB is set aside by name and line, without being held, and reading goes on', async () => {
    const GB = 2 ** 30
    const file = endless('big.jsonl', GB, '{"text":"one"}\n', '\n{"text":"two"}\n')
    const { value, grown } = await peak(() => all(readJsonl(file)))
    expect(value.map((r) => ('row' in r ? [r.line, r.row] : [r.line, r.bad]))).toEqual([
      [1, { text: 'one' }],
      [2, 'the line is 1024 MiB long; at most 16 MiB are read'],
      [3, { text: 'two' }],
    ])
    expect(grown).toBeLessThan(400 * 2 ** 20)
  })

  it.each([
    ['big.json', '[{"text":"one"},{"text":"', '"},{"text":"two"}]', 2],
    ['big.csv', 'text\none\n"', '"\ntwo\n', 2],
    ['big.txt', 'one\n\n', '\n\ntwo', 2],
  ])('%s', async (name, start, end, usable) => {
    const file = endless(name, 64 * 2 ** 20, start, end)
    const rows = await all((await openRows(file)).rows())
    const bad = rows.filter((r) => 'bad' in r)
    expect(rows.length - bad.length).toBe(usable)
    expect(bad).toHaveLength(1)
    expect(bad[0]?.bad).toMatch(/MiB/)
    expect(bad[0]?.excerpt.length).toBeLessThan(200)
  })

  it('a line just within the limit is read', async () => {
    const text = 'a'.repeat(MAX_ROW_BYTES - 40)
    expect(values(await all(readJsonl(source(`{"text":"${text}"}\n{"text":"b"}`))))).toEqual([{ text }, { text: 'b' }])
  })
})
