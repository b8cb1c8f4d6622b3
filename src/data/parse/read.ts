/** @file The reader of a data file: its kind from name and content, and its rows as a stream whatever the kind. */
import { DataError } from '../../errors.ts'
import { isObject } from '../../io/json.ts'
import type { ByteSource } from '../../io/source.ts'
import type { FileKind } from '../report.ts'
import { guessDelimiter, readCsv } from './csv.ts'
import { readJson } from './json.ts'
import { readJsonl } from './jsonl.ts'
import { readParquet } from './parquet.ts'
import type { ParsedRow, RowOptions } from './row.ts'
import { encodingOf } from './text.ts'
import { readTxt, TXT_NOTES, txtRule } from './txt.ts'

const HEAD = 2 ** 18

export interface RowReader {
  readonly kind: FileKind
  /** How rows were found, where there was a choice. */
  readonly notes: readonly string[]
  rows(options?: RowOptions): AsyncGenerator<ParsedRow[]>
}

const MAGIC: readonly (readonly [string, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zip', [0x50, 0x4b, 0x03, 0x04]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['PDF', [0x25, 0x50, 0x44, 0x46, 0x2d]],
  ['SQLite', [0x53, 0x51, 0x4c, 0x69, 0x74, 0x65]],
  ['Arrow', [0x41, 0x52, 0x52, 0x4f, 0x57, 0x31]],
]
const extension = (name: string): string => /\.([^./\\]+)$/.exec(name.toLowerCase())?.[1] ?? ''

/** JSON by its first character and line: a list, an object over several lines or with a list inside, or one object a line. */
function jsonKind(head: string, complete: boolean): FileKind {
  const text = head.trimStart()
  if (text.startsWith('[')) return 'json'
  const end = text.indexOf('\n')
  const first = end < 0 ? text : text.slice(0, end)
  try {
    const value: unknown = JSON.parse(first)
    const alone = complete && (end < 0 || !text.slice(end).trim())
    return alone && isObject(value) && !('role' in value) && Object.values(value).some((v) => Array.isArray(v)) ? 'json' : 'jsonl'
  } catch {
    return 'json'
  }
}

/** Does a line of JSON stand alone? Then a broken first line does not turn JSON Lines into JSON. */
const hasJsonLine = (head: string): boolean =>
  head.split('\n', 50).some((l) => {
    try {
      return l.trim().startsWith('{') && isObject(JSON.parse(l))
    } catch {
      return false
    }
  })

function kindOf(name: string, head: string, complete: boolean): FileKind {
  const start = head.trimStart()[0] ?? ''
  switch (extension(name)) {
    case 'jsonl':
    case 'ndjson':
      return start === '['
        ? hasJsonLine(head)
          ? 'jsonl'
          : 'json'
        : start === '{' && !hasJsonLine(head) && /^\s*\{\s*\n/.test(head)
          ? 'json'
          : 'jsonl'
    case 'json':
      return jsonKind(head, complete)
    case 'csv':
      return 'csv'
    case 'tsv':
    case 'tab':
      return 'tsv'
    case 'txt':
    case 'text':
    case 'md':
      return start === '{' && hasJsonLine(head) ? 'jsonl' : 'txt'
  }
  if (start === '{' || start === '[') return jsonKind(head, complete)
  const lines = head.split('\n', 20).filter((l) => l.trim())
  const tabs = lines.map((l) => l.split('\t').length - 1)
  if (lines.length > 1 && (tabs[0] ?? 0) > 0 && tabs.slice(0, -1).every((n) => n === tabs[0])) return 'tsv'
  return 'txt'
}

/** Opens a data file: reads its head, tells its kind. Throws DataError for an empty file or one that is no data. */
export async function openRows(source: ByteSource): Promise<RowReader> {
  const where = { where: source.name }
  if (source.size === 0) throw new DataError('the file is empty', { ...where, fix: 'Choose a file with rows in it' })
  const bytes = await source.read(0, Math.min(source.size, HEAD))
  const starts = (magic: readonly number[]): boolean => magic.every((b, i) => bytes[i] === b)
  if (starts([0x50, 0x41, 0x52, 0x31])) return { kind: 'parquet', notes: [], rows: (o) => readParquet(source, o) }
  if (extension(source.name) === 'parquet')
    throw new DataError('the file is not Parquet: it does not begin with "PAR1"', { ...where, fix: 'Download or write it again' })
  const other = MAGIC.find(([, magic]) => starts(magic))
  if (other)
    throw new DataError(`the file is ${other[0]}, not rows of data`, {
      ...where,
      fix: 'Unpack or convert it to JSONL, JSON, CSV, TSV, Parquet or TXT',
    })
  const { encoding, bom } = encodingOf(bytes, source.name)
  const head = new TextDecoder(encoding, { ignoreBOM: true }).decode(bytes.subarray(bom))
  if (!head.trim() && source.size <= HEAD)
    throw new DataError('the file holds nothing but blanks', { ...where, fix: 'Choose a file with rows in it' })
  const kind = kindOf(source.name, head, source.size <= HEAD)
  if (kind === 'txt' && head.includes('\0') && !/^(txt|text|md)$/.test(extension(source.name)))
    throw new DataError('the file is binary, not rows of data', { ...where, fix: 'Use JSONL, JSON, CSV, TSV, Parquet or TXT' })
  switch (kind) {
    case 'jsonl':
      return { kind, notes: [], rows: (o) => readJsonl(source, o) }
    case 'json':
      return { kind, notes: [], rows: (o) => readJson(source, o) }
    case 'csv': {
      const delimiter = guessDelimiter(head)
      const named: Readonly<Record<string, string>> = { '\t': 'tabs', ';': 'semicolons', '|': 'bars' }
      return {
        kind,
        notes: delimiter in named ? [`Fields are separated by ${named[delimiter]}.`] : [],
        rows: (o) => readCsv(source, delimiter, o),
      }
    }
    case 'tsv':
      return { kind, notes: [], rows: (o) => readCsv(source, '\t', o) }
    default: {
      const rule = txtRule(head)
      return { kind: 'txt', notes: [TXT_NOTES[rule]], rows: (o) => readTxt(source, rule, o) }
    }
  }
}
