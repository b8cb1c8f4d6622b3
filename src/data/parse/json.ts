/** @file A JSON file of rows, streamed: a list of objects, an object with such a list inside, or objects one after another. */
import type { ByteSource } from '../../io/source.ts'
import { asRow, jsonProblem, type ParsedRow, type RowOptions } from './row.ts'
import { excerptOf, MAX_ROW_BYTES, readText } from './text.ts'

/** Lists under these names are turns of one conversation, not rows. */
const TURNS = new Set(
  'messages conversations conversation prompt completion chat dialog dialogue turns chosen rejected tools content'.split(' '),
)

const CODE = {
  quote: 0x22,
  backslash: 0x5c,
  comma: 0x2c,
  newline: 0x0a,
  openObject: 0x7b,
  closeObject: 0x7d,
  openList: 0x5b,
  closeList: 0x5d,
}
const isSpace = (c: number): boolean => c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09

/** A value being collected: where it began, its text so far, and how it ends. */
interface Capture {
  readonly line: number
  readonly kind: 'container' | 'string' | 'scalar'
  text: string
  size: number
  suspect: boolean
}

/** Finds where rows begin and end, by brackets and strings alone; whether a row is JSON is for JSON.parse to say. Feed it text with `push`, then `end`. */
class RowScanner {
  #rows: ParsedRow[] = []
  /** `top`: values directly in the file. `list`: in a list. `inner`: in a list inside an object. `tail`: what follows that list in its object. */
  #mode: 'top' | 'list' | 'inner' | 'tail' = 'top'
  #depth = 0
  #line = 1
  #inString = false
  #escaped = false
  #capture: Capture | null = null
  /** Where the capture goes on in the text being pushed. */
  #from = 0
  /** Last string read directly in an object of the file, and where it began in this text (-1: before it). */
  #key = ''
  #keyFrom = -1
  /** A list under `#key` was just opened: if an object follows, its objects are the rows. */
  #maybeRows = false

  push(text: string, suspect: boolean): ParsedRow[] {
    this.#from = 0
    this.#keyFrom = -1
    if (this.#capture) this.#capture.suspect ||= suspect
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i)
      if (c === CODE.newline) this.#line++
      if (this.#inString) this.#string(text, i, c)
      else if (isSpace(c)) this.#scalarEnds(text, i)
      else this.#structure(text, i, c, suspect)
    }
    if (this.#capture) this.#collect(text, text.length)
    return this.#take()
  }

  /** The rows left at the end of the file, and what is unfinished. */
  end(): ParsedRow[] {
    if (this.#capture?.kind === 'scalar') this.#finish('', 0)
    const open = this.#capture
    if (open)
      this.#bad(
        open.line,
        'the row begins here and is never closed: a bracket or quote is missing, or the file is truncated; nothing after it was read',
        open.text,
      )
    else if (this.#mode !== 'top') this.#bad(this.#line, 'the list of rows is not closed: the file is truncated', '')
    return this.#take()
  }

  get #base(): number {
    return { top: 0, list: 1, inner: 2, tail: -1 }[this.#mode]
  }

  #string(text: string, i: number, c: number): void {
    if (this.#escaped) this.#escaped = false
    else if (c === CODE.backslash) this.#escaped = true
    else if (c === CODE.quote) {
      this.#inString = false
      if (this.#mode === 'top' && this.#depth === 1) this.#key = this.#keyFrom < 0 ? '' : text.slice(this.#keyFrom, i)
      if (this.#capture?.kind === 'string') this.#finish(text, i + 1)
    }
  }

  #structure(text: string, i: number, c: number, suspect: boolean): void {
    if (this.#maybeRows) {
      this.#maybeRows = false
      if (c === CODE.openObject) {
        this.#mode = 'inner'
        this.#capture = null
      }
    }
    const closes = c === CODE.closeObject || c === CODE.closeList
    const opens = c === CODE.openObject || c === CODE.openList
    if (closes || c === CODE.comma) this.#scalarEnds(text, i)
    if (!this.#capture && this.#depth === this.#base && c !== CODE.comma) {
      if (closes && this.#mode !== 'top') {
        this.#leave()
        return
      }
      if (this.#mode === 'top' && c === CODE.openList) {
        this.#mode = 'list'
        this.#depth = 1
        return
      }
      this.#from = i
      this.#capture = { line: this.#line, kind: opens ? 'container' : c === CODE.quote ? 'string' : 'scalar', text: '', size: 0, suspect }
    }
    if (c === CODE.quote) {
      this.#inString = true
      this.#keyFrom = i + 1
    } else if (opens) {
      this.#depth++
      this.#maybeRows = this.#mode === 'top' && this.#depth === 2 && c === CODE.openList && !TURNS.has(this.#key)
    } else if (closes && this.#capture?.kind !== 'scalar') {
      this.#depth--
      if (this.#capture && this.#depth === this.#base) this.#finish(text, i + 1)
      if (this.#mode === 'tail' && this.#depth === 0) this.#mode = 'top'
    }
  }

  /** The list of rows is closed. */
  #leave(): void {
    this.#depth--
    this.#mode = this.#mode === 'inner' ? 'tail' : 'top'
  }

  #scalarEnds(text: string, i: number): void {
    if (this.#capture?.kind === 'scalar' && this.#depth === this.#base) this.#finish(text, i)
  }

  #collect(text: string, to: number): void {
    const c = this.#capture
    if (!c) return
    c.size += to - this.#from
    if (c.size <= MAX_ROW_BYTES) c.text += text.slice(this.#from, to)
    else c.text = excerptOf(c.text || text.slice(this.#from, to))
  }

  #finish(text: string, to: number): void {
    this.#collect(text, to)
    const c = this.#capture
    this.#capture = null
    if (!c) return
    if (c.size > MAX_ROW_BYTES) {
      this.#bad(c.line, `the row is ${Math.round(c.size / 2 ** 20)} MiB long; at most ${MAX_ROW_BYTES / 2 ** 20} MiB are read`, c.text)
      return
    }
    if (c.suspect && c.text.includes('\uFFFD')) {
      this.#bad(c.line, 'the row holds bytes that are not valid text', c.text)
      return
    }
    try {
      const row = asRow(JSON.parse(c.text))
      if (typeof row === 'string') this.#bad(c.line, row, c.text)
      else this.#rows.push({ line: c.line, row })
    } catch (e) {
      this.#bad(c.line, jsonProblem(e), c.text)
    }
  }

  #bad(line: number, bad: string, text: string): void {
    this.#rows.push({ line, bad, excerpt: excerptOf(text) })
  }

  #take(): ParsedRow[] {
    const rows = this.#rows
    this.#rows = []
    return rows
  }
}

/** Rows in batches. The whole file is never held: one row at a time. */
export async function* readJson(source: ByteSource, options: RowOptions = {}): AsyncGenerator<ParsedRow[]> {
  const scanner = new RowScanner()
  for await (const { text, suspect } of readText(source, options)) {
    const rows = scanner.push(text, suspect)
    if (rows.length) yield rows
  }
  const rest = scanner.end()
  if (rest.length) yield rest
}
