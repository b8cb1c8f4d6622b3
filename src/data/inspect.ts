/** @file A first look at a data file: kind, columns, format and first rows, from its head only. */
import { DataError } from '../errors.ts'
import type { JsonObject } from '../io/json.ts'
import type { ByteSource } from '../io/source.ts'
import { chosenFormat, columnsOf, detectFormat } from './formats.ts'
import { openRows, type RowReader } from './parse/read.ts'
import type { DataOptions, Detection, Inspection } from './report.ts'

/** Rows looked at to tell the format. */
const SAMPLE = 100
const SHOWN = 5
const SHOWN_TEXT = 300

/** First readable rows of a file. Throws DataError, naming the line, where there is none. */
export async function sampleRows(name: string, reader: RowReader, signal?: AbortSignal): Promise<JsonObject[]> {
  const rows: JsonObject[] = []
  let first: { line: number; bad: string } | null = null
  for await (const batch of reader.rows(signal && { signal })) {
    for (const r of batch) {
      if ('row' in r) rows.push(r.row)
      else first ??= r
    }
    if (rows.length >= SAMPLE) break
  }
  if (!rows.length)
    throw new DataError(first ? `no row can be read: ${first.bad}` : 'there are no rows in it', {
      where: first ? `${name}, line ${first.line}` : name,
      fix: 'Check that the file is what its name says',
    })
  return rows.slice(0, SAMPLE)
}

/** The format of a file's sample: detected, or the one the options choose. Throws DataError naming the file. */
export function formatOf(
  name: string,
  sample: readonly JsonObject[],
  { format, mapping }: Pick<DataOptions, 'format' | 'mapping'>,
): Detection {
  try {
    return format ? chosenFormat(format, mapping, sample) : detectFormat(sample)
  } catch (e) {
    if (!(e instanceof DataError)) throw e
    throw new DataError(e.what, { where: name, ...(e.why && { why: e.why }), ...(e.fix && { fix: e.fix }) })
  }
}

const shown = (v: unknown): string => {
  const text = typeof v === 'string' ? v : (JSON.stringify(v, (_, x: unknown) => (typeof x === 'bigint' ? Number(x) : x)) ?? '')
  return text.length > SHOWN_TEXT ? `${text.slice(0, SHOWN_TEXT)}…` : text
}

/** What can be said of a file before it is tokenised. Throws DataError for a file that holds no rows. */
export async function inspectFile(source: ByteSource, signal?: AbortSignal): Promise<Inspection> {
  const reader = await openRows(source)
  const sample = await sampleRows(source.name, reader, signal)
  let detection: Detection | null = null
  let problem: string | null = null
  try {
    detection = detectFormat(sample)
  } catch (e) {
    if (!(e instanceof DataError)) throw e
    problem = e.message
  }
  return {
    name: source.name,
    kind: reader.kind,
    bytes: source.size,
    columns: columnsOf(sample),
    notes: reader.notes,
    detection,
    problem,
    sample: sample.slice(0, SHOWN).map((row) => Object.fromEntries(Object.entries(row).map(([k, v]) => [k, shown(v)]))),
  }
}
