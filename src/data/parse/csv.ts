/** @file CSV and TSV, streamed through papaparse: quoted fields may hold line ends, the first record names the columns. */
import Papa from 'papaparse'
import type { ByteSource } from '../../io/source.ts'
import type { ParsedRow, RowOptions } from './row.ts'
import { excerptOf, MAX_ROW_BYTES, readLines, type Line } from './text.ts'

/** How often reading starts again on the line after one whose quote is never closed. */
const MAX_RESTARTS = 50
/** Characters read at least before records are looked for. */
const MIN_TEXT = 2 ** 16

const MISPLACED = 'quotes in this record are misplaced: a quote inside a quoted field must be doubled'

interface Records {
  readonly data: string[][]
  readonly errors: readonly { readonly type: string; readonly code: string; readonly row: number }[]
}

/** Column names of the header: blank ones are numbered, repeated ones told apart. */
function columnNames(header: readonly string[]): string[] {
  const names: string[] = []
  header.forEach((raw, i) => {
    const name = raw.trim() || `column ${i + 1}`
    names.push(names.includes(name) ? `${name} (${i + 1})` : name)
  })
  return names
}

/** Records with the line each starts on, over lines that come in batches. */
class CsvScanner {
  #names: readonly string[] | null = null
  /** Lines not yet part of a whole record; `#line` is the number of the first, `#size` their characters. */
  #lines: string[] = []
  #line = 1
  #size = 0
  #wait = MIN_TEXT
  #restarts = 0
  readonly #problems = new Map<number, { readonly why: string; readonly excerpt: string }>()

  constructor(readonly delimiter: string) {}

  push(lines: readonly Line[], last: boolean): ParsedRow[] {
    if (this.#restarts > MAX_RESTARTS) return []
    for (const { line, text, problem, partial } of lines) {
      // What a line too long holds is unknown: it takes part in no record.
      const kept = partial ? '' : text
      if (problem !== null) this.#problems.set(line, { why: problem, excerpt: excerptOf(text) })
      this.#lines.push(kept)
      this.#size += kept.length + 1
    }
    const rows: ParsedRow[] = []
    if (last || this.#size >= this.#wait) while (this.#lines.length && this.#scan(last, rows));
    return rows
  }

  /** One pass over the lines held; true if a line was given up and the ones after it are to be read again. */
  #scan(last: boolean, rows: ParsedRow[]): boolean {
    const parser = new Papa.Parser({ delimiter: this.delimiter, newline: '\n' })
    const { data, errors } = parser.parse(this.#lines.join('\n') + (last ? '' : '\n'), 0, !last) as Records
    const having = (code: string): Set<number> => new Set(errors.filter((e) => e.code === code).map((e) => e.row))
    const [open, misplaced] = [having('MissingQuotes'), having('InvalidQuotes')]
    let used = 0
    let unclosed = false
    for (const [i, record] of data.entries()) {
      unclosed = open.has(i)
      if (unclosed) break
      const lines = 1 + record.reduce((n, f) => n + (f.split('\n').length - 1), 0)
      this.#record(record, this.#line + used, lines, misplaced.has(i), rows)
      used += lines
    }
    this.#drop(used)
    const far = !last && this.#size > MAX_ROW_BYTES
    // While a quote is open, look again once the text has doubled: the work stays linear.
    this.#wait = Math.max(MIN_TEXT, 2 * this.#size)
    if (!unclosed && !far) return false
    const within = far ? ` within ${MAX_ROW_BYTES / 2 ** 20} MiB` : ''
    const bad = misplaced.has(data.length - 1) ? MISPLACED : `a quote opened in this record is never closed${within}`
    rows.push({ line: this.#line, bad, excerpt: excerptOf(this.#lines[0] ?? '') })
    this.#drop(1)
    if (++this.#restarts <= MAX_RESTARTS) return true
    rows.push({
      line: this.#line,
      bad: `quotes are unbalanced in more than ${MAX_RESTARTS} places: the rest of the file was not read`,
      excerpt: excerptOf(this.#lines[0] ?? ''),
    })
    this.#drop(this.#lines.length)
    return false
  }

  #drop(lines: number): void {
    for (const line of this.#lines.slice(0, lines)) this.#size -= line.length + 1
    this.#lines = this.#lines.slice(lines)
    this.#line += lines
  }

  #record(record: readonly string[], line: number, lines: number, badQuotes: boolean, rows: ParsedRow[]): void {
    const bad = (why: string): number => rows.push({ line, bad: why, excerpt: excerptOf(record.join(this.delimiter)) })
    for (let l = line; this.#problems.size && l < line + lines; l++) {
      const problem = this.#problems.get(l)
      if (problem) return void rows.push({ line: l, bad: problem.why, excerpt: problem.excerpt })
    }
    if (record.every((f) => !f.trim())) return
    if (badQuotes) return void bad(MISPLACED)
    if (!this.#names) {
      this.#names = columnNames(record)
      return
    }
    if (record.length !== this.#names.length)
      return void bad(`there are ${record.length} fields, and the first line names ${this.#names.length} columns`)
    rows.push({ line, row: Object.fromEntries(this.#names.map((name, i) => [name, record[i] ?? ''])) })
  }
}

/** Rows in batches; fields are text. `delimiter`: from `guessDelimiter`. */
export async function* readCsv(source: ByteSource, delimiter: string, options: RowOptions = {}): AsyncGenerator<ParsedRow[]> {
  const scanner = new CsvScanner(delimiter)
  for await (const lines of readLines(source, options)) {
    const rows = scanner.push(lines, false)
    if (rows.length) yield rows
  }
  const rest = scanner.push([], true)
  if (rest.length) yield rest
}

/** The delimiter that splits the first lines evenly: comma, tab, semicolon or bar. A comma where none does. */
export function guessDelimiter(head: string): string {
  const { meta } = Papa.parse(head, { preview: 20, skipEmptyLines: true, delimitersToGuess: [',', '\t', ';', '|'] })
  return meta.delimiter || ','
}
