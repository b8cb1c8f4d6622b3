/** @file Which format rows have, told from a sample of them, with the reason in words; and a row of that format to an Example. */
import { DataError } from '../errors.ts'
import { chatExample, instructionExample, isTurnList, pairExample, promptExample } from './examples.ts'
import { field, type JsonObject as Row } from '../io/json.ts'
import type { Example } from './masks.ts'
import { FIELDS, type Detection, type Field, type Format, type Mapping } from './report.ts'
import { readIds } from './token_row.ts'

/** Column names in use for each field, the usual first. Compared without case, spaces, "-" and "_". */
const ALIASES: Readonly<Record<Field, readonly string[]>> = {
  messages: ['messages', 'conversations', 'conversation', 'chat', 'dialog', 'dialogue', 'turns'],
  system: ['system', 'system_prompt', 'system_message'],
  instruction: ['instruction', 'instructions', 'task'],
  input: ['input', 'inputs', 'context'],
  output: ['output', 'outputs', 'response', 'answer', 'completion', 'target'],
  prompt: ['prompt', 'question', 'query', 'problem', 'source', 'input', 'inputs'],
  completion: ['completion', 'answer', 'response', 'target', 'targets', 'output', 'chosen', 'solution', 'reply'],
  text: ['text', 'content', 'document', 'story', 'sentence', 'body'],
  input_ids: ['input_ids', 'ids', 'tokens', 'token_ids'],
  labels: ['labels', 'label_ids'],
}
/** Tried in this order: the most telling names first. */
const ORDER: readonly Format[] = ['tokens', 'messages', 'sharegpt', 'instruction', 'prompt-completion', 'text']

const bare = (s: string): string => s.toLowerCase().replaceAll(/[\s_-]/g, '')
const column = (columns: readonly string[], field: Field, taken: readonly string[] = []): string | undefined => {
  for (const alias of ALIASES[field]) {
    const found = columns.find((c) => bare(c) === bare(alias) && !taken.includes(c))
    if (found !== undefined) return found
  }
  return undefined
}

/** Columns of a sample, in the order first met. */
export const columnsOf = (rows: readonly Row[]): string[] => [...new Set(rows.flatMap((r) => Object.keys(r)))]

/** The columns a format's fields would be read from, or null where a required one is missing. */
function guess(format: Format, columns: readonly string[]): Mapping | null {
  const mapping: Partial<Record<Field, string>> = {}
  const { required, optional } = FIELDS[format]
  for (const f of required) {
    const found = column(columns, f, Object.values(mapping))
    if (found === undefined) return null
    mapping[f] = found
  }
  for (const f of optional) {
    const found = column(columns, f, Object.values(mapping))
    if (found !== undefined) mapping[f] = found
  }
  return mapping
}

const value = (row: Row, name: string | undefined): unknown => (name === undefined ? undefined : field(row, name))

/** Does a row's content look like the format? Names alone are not enough: `messages` may hold text. */
function looksLike(format: Format, row: Row, mapping: Mapping): boolean {
  switch (format) {
    case 'messages':
      return isTurnList(value(row, mapping.messages), 'role')
    case 'sharegpt':
      return isTurnList(value(row, mapping.messages), 'from')
    case 'tokens':
      return readIds(value(row, mapping.input_ids)) !== null
    case 'instruction':
      return typeof value(row, mapping.instruction) === 'string'
    case 'prompt-completion': {
      const prompt = value(row, mapping.prompt)
      return typeof prompt === 'string' || isTurnList(prompt, 'role')
    }
    case 'text':
      return typeof value(row, mapping.text) === 'string'
  }
}

const quote = (s: string | undefined): string => `"${s ?? ''}"`
const list = (names: readonly string[]): string => names.map(quote).join(', ')

function reason(format: Format, m: Mapping, columns: readonly string[]): string {
  const used = Object.values(m)
  const unused = columns.filter((c) => !used.includes(c))
  const rest = unused.length ? `; ${list(unused.slice(0, 4))}${unused.length > 4 ? ' and more' : ''} not used` : ''
  switch (format) {
    case 'messages':
      return `${quote(m.messages)} holds lists of turns with "role" and "content": conversations, loss on the assistant's turns${rest}.`
    case 'sharegpt':
      return `${quote(m.messages)} holds lists of turns with "from" and "value" (ShareGPT): conversations, loss on the assistant's turns${rest}.`
    case 'instruction':
      return `Each row has ${list(used)}: an instruction${m.input ? ' with optional input' : ''} and its answer in ${quote(m.output)}${rest}.`
    case 'prompt-completion':
      return columns.includes('rejected') && bare(m.completion ?? '') === 'chosen'
        ? `Rows are preference pairs: ${quote(m.completion)} is trained as the answer to ${quote(m.prompt)}, "rejected" is not used.`
        : `${quote(m.prompt)} is read as the prompt and ${quote(m.completion)} as the answer to learn${rest}.`
    case 'text':
      return `${quote(m.text)} is plain text: all of it is trained${rest}.`
    case 'tokens':
      return m.labels !== undefined
        ? `Rows are already tokenised: ${quote(m.input_ids)} with ${quote(m.labels)}, taken as they are${rest}.`
        : `Rows are already tokenised (${quote(m.input_ids)}) without labels: all of it is trained${rest}.`
  }
}

/** `prompt` and `completion` may be lists of messages; a question beside an `input` column is an instruction with input. */
function candidates(columns: readonly string[]): { format: Format; mapping: Mapping }[] {
  return ORDER.flatMap((format) => {
    const mapping = guess(format, columns)
    return mapping ? [{ format, mapping }] : []
  })
}

/** The format of a sample of rows. Throws DataError where none fits, naming the columns that are there. */
export function detectFormat(sample: readonly Row[]): Detection {
  const columns = columnsOf(sample)
  let best: (Detection & { score: number }) | null = null
  for (const { format, mapping } of candidates(columns)) {
    const fits = sample.filter((r) => looksLike(format, r, mapping)).length / sample.length
    const first = FIELDS[format].required.every((f) => bare(mapping[f] ?? '') === bare(ALIASES[f][0] ?? ''))
    const score = fits * (first ? 1 : 0.8)
    if (fits > 0 && (!best || score > best.score))
      best = { format, mapping, reason: reason(format, mapping, columns), confidence: score, score }
  }
  if (best) return { format: best.format, mapping: best.mapping, reason: best.reason, confidence: best.confidence }
  const strings = columns.filter((c) => sample.every((r) => typeof value(r, c) === 'string'))
  if (columns.length === 1 && strings[0] !== undefined)
    return {
      format: 'text',
      mapping: { text: strings[0] },
      reason: `There is one column, ${quote(strings[0])}, of text: all of it is trained.`,
      confidence: 0.6,
    }
  if (columns.length === 2 && strings.length === 2)
    return {
      format: 'prompt-completion',
      mapping: { prompt: strings[0] ?? '', completion: strings[1] ?? '' },
      reason: `There are two columns of text: ${quote(strings[0])} is read as the prompt and ${quote(strings[1])} as the answer.`,
      confidence: 0.4,
    }
  throw new DataError(columns.length ? `the columns ${list(columns.slice(0, 12))} fit no known format` : 'there are no columns', {
    why: 'It is not clear what the model should read and what it should learn',
    fix: 'Say which columns hold the prompt and the answer, or rename them to "prompt" and "completion"',
  })
}

/** The detection a person's choice stands for; columns they left open are guessed. Throws DataError where a required one is missing. */
export function chosenFormat(format: Format, mapping: Mapping | null, sample: readonly Row[]): Detection {
  const columns = columnsOf(sample)
  const given = Object.entries(mapping ?? {}).filter(([, c]) => c !== '')
  const full: Partial<Record<Field, string>> = mapping ? Object.fromEntries(given) : {}
  for (const f of mapping ? FIELDS[format].required : [...FIELDS[format].required, ...FIELDS[format].optional]) {
    const found = full[f] ?? column(columns, f, Object.values(full))
    if (found !== undefined) full[f] = found
  }
  const missing = FIELDS[format].required.filter((f) => full[f] === undefined || !columns.includes(full[f]))
  if (missing.length)
    throw new DataError(`as ${format}, the rows lack ${list(missing)}`, {
      why: `There are the columns ${list(columns.slice(0, 12))}`,
      fix: 'Map the missing ones to columns that exist',
    })
  return { format, mapping: full, reason: `Chosen: ${reason(format, full, columns)}`, confidence: 1 }
}

/** One row as an example. Throws DataError saying which field is missing or of the wrong kind. `vocabSize`: ids of tokenised rows must be below. */
export function readRow(row: Row, { format, mapping }: Detection, vocabSize: number | null): Example {
  const get = (field: Field): unknown => value(row, mapping[field])
  const name = (field: Field): string => mapping[field] ?? field
  switch (format) {
    case 'messages':
    case 'sharegpt':
      return chatExample(get('messages'), get('system'), name('messages'))
    case 'instruction':
      return instructionExample(
        { instruction: get('instruction'), input: get('input'), output: get('output'), system: get('system') },
        name,
      )
    case 'prompt-completion':
      return Array.isArray(get('prompt'))
        ? promptExample(get('prompt'), get('completion'), name)
        : pairExample(get('prompt'), get('completion'), get('system'), name)
    case 'text': {
      const text = get('text')
      if (typeof text !== 'string')
        throw new DataError(`${quote(name('text'))} ${text === undefined || text === null ? 'is missing' : 'is not text'}`)
      return { kind: 'text', text }
    }
    case 'tokens':
      return tokens(get('input_ids'), get('labels'), name, vocabSize)
  }
}

function tokens(rawIds: unknown, rawLabels: unknown, name: (f: Field) => string, vocabSize: number | null): Example {
  const ids = readIds(rawIds)
  if (!ids)
    throw new DataError(
      `${quote(name('input_ids'))} ${rawIds === undefined || rawIds === null ? 'is missing' : 'is not a list of whole numbers'}`,
    )
  const labels = rawLabels === undefined || rawLabels === null ? null : readIds(rawLabels)
  if (rawLabels !== undefined && rawLabels !== null && !labels)
    throw new DataError(`${quote(name('labels'))} is not a list of whole numbers`)
  if (labels && labels.length !== ids.length)
    throw new DataError(`${quote(name('labels'))} has ${labels.length} entries, ${quote(name('input_ids'))} ${ids.length}`)
  const outside = ids.findIndex((id) => id < 0 || (vocabSize !== null && id >= vocabSize))
  if (outside >= 0)
    throw new DataError(
      `token ${outside} is ${ids[outside]}, and the model's ids go from 0 to ${vocabSize === null ? '2147483647' : vocabSize - 1}`,
    )
  const wrong = labels?.findIndex((l) => l !== -100 && (l < 0 || (vocabSize !== null && l >= vocabSize))) ?? -1
  if (wrong >= 0) throw new DataError(`label ${wrong} is ${labels?.[wrong]}, which is neither a token id nor -100`)
  return { kind: 'tokens', ids, labels }
}
