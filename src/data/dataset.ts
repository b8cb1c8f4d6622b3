/** @file Files to a data set: parsed, tokenised and masked row by row, counted, split. What cannot be used is set aside with file, line and reason. */
import { DataError, EtudeError } from '../errors.ts'
import type { ByteSource } from '../io/source.ts'
import { dataChecks } from './checks.ts'
import { columnsOf, readRow } from './formats.ts'
import { formatOf, sampleRows } from './inspect.ts'
import { IGNORE } from './labels.ts'
import { RowEncoder } from './masks.ts'
import { openRows } from './parse/read.ts'
import type { ParsedRow } from './parse/row.ts'
import { excerptOf } from './parse/text.ts'
import type { BadRow, CutStats, DataOptions, DataStats, DatasetSummary, Detection, FileReport, PreviewRow } from './report.ts'
import { hasTrained, RowStore, type SplitRows } from './row_store.ts'
import { cutStats, hashRows, lengthStats } from './stats.ts'
import type { DataProgress } from './protocol.ts'
import type { Tokenizer, TokenRows } from './types.ts'

/** Rows set aside that are listed; all are counted. */
const LISTED = 1000
/** Tokens of a row a preview shows. */
const PREVIEWED = 8192
/** Work goes on this long, in ms, before events (a cancel) are let in. */
const SLICE = 50

export interface BuildHooks {
  readonly onProgress?: (progress: DataProgress) => void
  readonly signal?: AbortSignal
}

export interface Dataset extends DatasetSummary {
  /** Whole rows: the collator cuts them, so another length needs no new tokenising. */
  readonly train: TokenRows
  readonly held: TokenRows | null
  /** Exact tokens of usable row `i`, in file order over all files; null beyond the last. */
  preview(i: number): PreviewRow | null
  /** Counts for another length. */
  cut(seq: number): CutStats
}

/** Counts and lists what is not used. */
class SetAside {
  readonly counts = { bad: 0, empty: 0, duplicate: 0 }
  readonly list: BadRow[] = []
  add(row: BadRow, count = 1): void {
    this.counts[row.kind] += count
    if (this.list.length < LISTED) this.list.push(row)
  }
  get total(): number {
    return this.counts.bad + this.counts.empty + this.counts.duplicate
  }
}

const excerptOfRow = (row: object): string => excerptOf(JSON.stringify(row, (_, x: unknown) => (typeof x === 'bigint' ? Number(x) : x)))

/** The template rows are written with: the options' own, else the tokenizer's. */
const templateOf = (options: DataOptions, tokenizer: Tokenizer | null): string | null =>
  (options.template === null ? tokenizer?.chatTemplate : options.template) || null

/** Refuses at once what no row could survive. */
function checkFormat({ format }: Detection, name: string, tokenizer: Tokenizer | null, template: string | null): void {
  if (format !== 'tokens' && !tokenizer)
    throw new DataError('the rows are text, and the model has no tokenizer', {
      where: name,
      fix: 'Use rows of input_ids, or add the tokenizer.json of the model',
    })
  if ((format === 'messages' || format === 'sharegpt') && !template)
    throw new DataError('the rows are conversations, and the model has no chat template', {
      where: name,
      why: 'A conversation can be written as text in many ways, and a base model knows none of them',
      fix: 'Choose a template, or use rows of prompt and completion',
    })
}

/**
 * Builds a data set. `files` are read one after another and never held whole; memory is the tokens' arrays. Throws DataError for a file that is
 * no data, a format that cannot be told, or when nothing trainable is left; AbortError when the signal fires.
 */
export async function buildDataset(
  files: readonly ByteSource[],
  tokenizer: Tokenizer | null,
  options: DataOptions,
  hooks: BuildHooks = {},
): Promise<Dataset> {
  if (!files.length) throw new DataError('there is no file', { fix: 'Choose at least one' })
  const template = templateOf(options, tokenizer)
  const encoder = new RowEncoder(tokenizer, { template, completionOnly: options.completionOnly })
  const vocabSize = options.vocabSize ?? tokenizer?.vocabSize ?? null
  const store = new RowStore()
  const aside = new SetAside()
  const reports: FileReport[] = []
  const total = files.reduce((n, f) => n + f.size, 0)
  let before = 0
  let duplicates = 0
  let sliceStart = performance.now()

  for (const [f, source] of files.entries()) {
    const { name } = source
    let done = 0
    const progress = (): void =>
      hooks.onProgress?.({ label: name, done: before + done, total, rows: store.rows, tokens: store.tokens, setAside: aside.total })
    const reader = await openRows(source)
    const sample = await sampleRows(name, reader, hooks.signal)
    const detection = formatOf(name, sample, options)
    checkFormat(detection, name, tokenizer, template)
    const columns = columnsOf(sample)
    let rows = 0

    const take = (parsed: ParsedRow): void => {
      const { line } = parsed
      if ('bad' in parsed) {
        rows += parsed.count ?? 1
        aside.add({ file: name, line, kind: 'bad', why: parsed.bad, excerpt: parsed.excerpt }, parsed.count)
        return
      }
      rows++
      const put = (kind: BadRow['kind'], why: string): void => aside.add({ file: name, line, kind, why, excerpt: excerptOfRow(parsed.row) })
      try {
        const encoded = encoder.encode(readRow(parsed.row, detection, vocabSize))
        if (!encoded || !hasTrained(encoded)) {
          put('empty', encoded?.ids.length ? 'no token in it is trained' : 'there is nothing to learn in it: the text or answer is empty')
          return
        }
        const repeated = store.repeats(encoded)
        if (repeated) duplicates++
        if (repeated && options.dedupe) {
          put('duplicate', 'its tokens repeat an earlier row')
          return
        }
        store.add(encoded, f, line)
      } catch (e) {
        if (!(e instanceof EtudeError)) throw e
        put('bad', [e.what, e.fix].filter(Boolean).join('. '))
      }
    }

    const wanted = Object.values(detection.mapping)
    for await (const batch of reader.rows({ columns: wanted, onBytes: (n) => (done = n), ...(hooks.signal && { signal: hooks.signal }) })) {
      for (const row of batch) {
        take(row)
        if (performance.now() - sliceStart < SLICE) continue
        progress()
        await new Promise((resolve) => setTimeout(resolve))
        hooks.signal?.throwIfAborted()
        sliceStart = performance.now()
      }
    }
    reports.push({ name, kind: reader.kind, bytes: source.size, rows, detection, columns, notes: reader.notes })
    before += source.size
    done = 0
    progress()
  }
  if (!store.rows) throw nothingLeft(aside, files)

  const split = store.finish(options.evalFraction, options.seed)
  const sets = split.held ? [split.train, split.held] : [split.train]
  const cut = cutStats(sets, options.seq)
  const whole = cutStats(sets, Infinity)
  const lengths = lengthStats(sets)
  const usable = split.index.held.length
  const held = split.index.held.reduce((n, h) => n + h, 0)
  const stats: DataStats = {
    rows: usable + aside.total,
    usable,
    train: usable - held,
    held,
    bad: aside.counts.bad,
    empty: aside.counts.empty,
    duplicates,
    setAside: aside.list,
    cut,
    trainableTokens: whole.trainableTokens,
    totalTokens: whole.totalTokens,
    lengths,
  }
  const whose = template === null ? null : options.template === null ? 'own' : 'chosen'
  return {
    name: `${files[0]?.name ?? ''}${files.length > 1 ? ` and ${files.length - 1} more` : ''}`,
    files: reports,
    stats,
    checks: dataChecks({ tokenizer, tally: encoder.tally, template: whose, cut, suggestedSeq: lengths.suggestedSeq }),
    dataHash: await hashRows(sets),
    completionOnly: options.completionOnly ?? reports.some((r) => r.detection.format !== 'text'),
    train: split.train,
    held: split.held,
    preview: (i) => previewRow(split, tokenizer, files, options.seq, i),
    cut: (seq) => cutStats(sets, seq),
  }
}

function nothingLeft({ counts, list }: SetAside, files: readonly ByteSource[]): DataError {
  const first = list[0]
  return new DataError(
    `nothing can be trained: of ${counts.bad + counts.empty} rows ${counts.bad} cannot be used and ${counts.empty} have no trained token`,
    {
      where: first ? `${first.file}, line ${first.line}` : files.map((f) => f.name).join(', '),
      ...(first && { why: `The first: ${first.why}` }),
      fix: 'Check the format and the columns it is read from',
    },
  )
}

function previewRow(
  { train, held, index }: SplitRows,
  tokenizer: Tokenizer | null,
  files: readonly ByteSource[],
  seq: number,
  i: number,
): PreviewRow | null {
  if (!Number.isInteger(i) || i < 0 || i >= index.held.length) return null
  const isHeld = index.held[i] === 1
  const rows = isHeld ? held : train
  if (!rows) return null
  const place = index.place[i] ?? 0
  const from = rows.offsets[place] ?? 0
  const length = (rows.offsets[place + 1] ?? 0) - from
  const tokens = Array.from(rows.ids.subarray(from, from + Math.min(length, PREVIEWED)), (id, t) => ({
    id,
    text: tokenizer ? tokenizer.token(id) : `${id} `,
    trained: t > 0 && rows.labels[from + t] !== IGNORE,
    special: tokenizer?.isSpecial(id) ?? false,
    cut: t >= seq,
  }))
  return { index: i, file: files[index.file[i] ?? 0]?.name ?? '', line: index.line[i] ?? 0, held: isHeld, tokens, length }
}
