/** @file Plain text files: paragraphs separated by blank lines; in a file without blank lines every line is a row. */
import type { ByteSource } from '../../io/source.ts'
import type { ParsedRow, RowOptions } from './row.ts'
import { excerptOf, MAX_ROW_BYTES, readLines } from './text.ts'

export type TxtRule = 'paragraphs' | 'lines'
export const TXT_NOTES: Readonly<Record<TxtRule, string>> = {
  paragraphs: 'Paragraphs separated by blank lines are the rows.',
  lines: 'There are no blank lines: every line is a row.',
}

/** Which rule fits a file, from its first text. */
export const txtRule = (head: string): TxtRule => (/\S[^\n]*\r?\n[ \t]*\r?\n\s*\S/.test(head) ? 'paragraphs' : 'lines')

/** Rows `{text}` in batches. A paragraph with a line that cannot be used is set aside whole. */
export async function* readTxt(source: ByteSource, rule: TxtRule, options: RowOptions = {}): AsyncGenerator<ParsedRow[]> {
  let open: { line: number; lines: string[]; size: number; problem: string | null } | null = null
  const finish = (rows: ParsedRow[]): void => {
    if (!open) return
    const { line, lines, size, problem } = open
    open = null
    const text = lines.join('\n')
    const why =
      size > MAX_ROW_BYTES
        ? `the paragraph is ${Math.round(size / 2 ** 20)} MiB long; at most ${MAX_ROW_BYTES / 2 ** 20} MiB are read`
        : problem
    rows.push(why === null ? { line, row: { text } } : { line, bad: why, excerpt: excerptOf(text) })
  }
  for await (const lines of readLines(source, options)) {
    const rows: ParsedRow[] = []
    for (const { line, text, problem } of lines) {
      if (problem === null && !text.trim()) {
        finish(rows)
        continue
      }
      if (!open || rule === 'lines') {
        finish(rows)
        open = { line, lines: [], size: 0, problem: null }
      }
      open.size += text.length + 1
      open.problem ??= problem
      if (open.size <= MAX_ROW_BYTES) open.lines.push(text)
    }
    if (rows.length) yield rows
  }
  const rest: ParsedRow[] = []
  finish(rest)
  if (rest.length) yield rest
}
