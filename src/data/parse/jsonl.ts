/** @file JSON Lines: one object a line. */
import type { ByteSource } from '../../io/source.ts'
import { asRow, jsonProblem, type ParsedRow, type RowOptions } from './row.ts'
import { excerptOf, readLines, type Line } from './text.ts'

function parse({ line, text, problem }: Line): ParsedRow {
  const bad = (why: string): ParsedRow => ({ line, bad: why, excerpt: excerptOf(text) })
  if (problem !== null) return bad(problem)
  try {
    const row = asRow(JSON.parse(text))
    return typeof row === 'string' ? bad(row) : { line, row }
  } catch (e) {
    return bad(jsonProblem(e))
  }
}

/** Rows in batches; blank lines are skipped. */
export async function* readJsonl(source: ByteSource, options: RowOptions = {}): AsyncGenerator<ParsedRow[]> {
  for await (const lines of readLines(source, options)) {
    const rows = lines.filter((l) => l.problem !== null || l.text.trim()).map(parse)
    if (rows.length) yield rows
  }
}
