/** @file Whole files to data sets: every format detected and read, every broken file named with its line (fixtures by test/golden/data_files.py). */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DataError } from '../errors.ts'
import type { ByteSource } from '../io/source.ts'
import { fromBytes } from '../io/sources.ts'
import { buildDataset, type Dataset } from './dataset.ts'
import { inspectFile } from './inspect.ts'
import { DEFAULT_DATA_OPTIONS, type DataOptions, type Format } from './report.ts'
import { BUILTIN_TEMPLATES } from './template.ts'
import { loadTokenizer } from './tokenizer.ts'
import { rowCount } from './types.ts'

const FIXTURES = resolve(import.meta.dirname, '../../test/fixtures/data')
const file = (name: string): ByteSource => fromBytes(name.replace(/^.*\//, ''), readFileSync(resolve(FIXTURES, name)))
const text = (name: string, content: string): ByteSource => fromBytes(name, new TextEncoder().encode(content))
const tokenizer = loadTokenizer({
  tokenizer: JSON.parse(readFileSync(resolve(FIXTURES, 'golden/bytelevel.tokenizer.json'), 'utf8')),
  config: { bos_token: '<|im_start|>', eos_token: '<|im_end|>', pad_token: '<|im_end|>' },
})
const CHATML = BUILTIN_TEMPLATES.chatml
const build = (sources: ByteSource | ByteSource[], options: Partial<DataOptions> = {}): Promise<Dataset> =>
  buildDataset([sources].flat(), tokenizer, { ...DEFAULT_DATA_OPTIONS, ...options })
const all = (d: Dataset, i: number): string =>
  d
    .preview(i)
    ?.tokens.map((t) => t.text)
    .join('') ?? ''
const trained = (d: Dataset, i: number): string =>
  d
    .preview(i)
    ?.tokens.filter((t) => t.trained)
    .map((t) => t.text)
    .join('') ?? ''

/** File, its kind, format, usable rows, template or none, and what is trained of the first row. */
const GOOD: readonly (readonly [string, string, Format, number, string, string])[] = [
  ['instruction.jsonl', 'jsonl', 'instruction', 4, '', 'Small fish.<|im_end|>'],
  ['instruction.json', 'json', 'instruction', 3, '', 'Small fish.<|im_end|>'],
  ['instruction.parquet', 'parquet', 'instruction', 3, '', 'Small fish.<|im_end|>'],
  ['messages.jsonl', 'jsonl', 'messages', 4, CHATML, 'Small fish.<|im_end|>\n'],
  ['messages.parquet', 'parquet', 'messages', 3, CHATML, 'Small fish.<|im_end|>\n'],
  ['openai-parts.jsonl', 'jsonl', 'messages', 3, CHATML, 'Small fish.<|im_end|>\n'],
  ['one-conversation.json', 'json', 'messages', 1, CHATML, 'Small fish.<|im_end|>\n'],
  ['sharegpt.json', 'json', 'sharegpt', 3, CHATML, 'Small fish.<|im_end|>\n'],
  // The space before the answer is a token with its first letter: it belongs to what differs from the prompt alone.
  ['prompt-completion.jsonl', 'jsonl', 'prompt-completion', 3, '', ' Small fish.<|im_end|>'],
  ['prompt-as-messages.jsonl', 'jsonl', 'prompt-completion', 3, CHATML, 'Small fish.<|im_end|>\n'],
  ['preference.jsonl', 'jsonl', 'prompt-completion', 3, CHATML, 'Small fish.<|im_end|>\n'],
  ['question-answer.csv', 'csv', 'prompt-completion', 4, '', 'Small fish.<|im_end|>'],
  ['semicolons-bom.csv', 'csv', 'prompt-completion', 2, '', 'Über das Meer<|im_end|>'],
  ['utf16.csv', 'csv', 'prompt-completion', 2, '', ''],
  ['two-columns.csv', 'csv', 'prompt-completion', 2, '', 'fish<|im_end|>'],
  ['query-response.tsv', 'tsv', 'prompt-completion', 3, '', 'Small fish.<|im_end|>'],
  ['paragraphs.txt', 'txt', 'text', 3, '', ''],
  ['lines.txt', 'txt', 'text', 3, '', ''],
  ['text-label.jsonl', 'jsonl', 'text', 2, '', ''],
  ['wrapped.json', 'json', 'prompt-completion', 3, '', 'Small fish.<|im_end|>'],
  ['tokens.jsonl', 'jsonl', 'tokens', 2, '', ''],
  ['tokens.parquet', 'parquet', 'tokens', 2, '', ''],
]

describe('well-formed files', () => {
  it.each(GOOD)('%s', async (name, kind, format, usable, template, first) => {
    const d = await build(file(`good/${name}`), { template })
    const [report] = d.files
    expect([report?.kind, report?.detection.format, d.stats.usable, d.stats.bad, d.stats.empty]).toEqual([kind, format, usable, 0, 0])
    expect(report?.detection.reason).toMatch(/^[A-Z"].*\.$/)
    expect(d.checks.filter((c) => !c.ok)).toEqual([])
    if (first) expect(trained(d, 0)).toBe(first)
    const seen = await inspectFile(file(`good/${name}`))
    expect([seen.kind, seen.detection]).toEqual([report?.kind, report?.detection])
  })

  it('an instruction with input: instruction, newline, input, newline', async () => {
    expect(all(await build(file('good/instruction.jsonl')), 3)).toBe('Say it backwards.\ntide\nedit<|im_end|>')
    expect(all(await build(file('good/instruction.jsonl')), 0)).toBe('What does the heron eat?\nSmall fish.<|im_end|>')
    expect(all(await build(file('good/instruction.jsonl'), { template: CHATML }), 3)).toBe(
      '<|im_start|>user\nSay it backwards.\ntide<|im_end|>\n<|im_start|>assistant\nedit<|im_end|>\n',
    )
  })

  it('quoted fields of CSV keep their line ends, and lines are counted through them', async () => {
    const d = await build(text('x.csv', 'prompt,completion\n"a\n\nb",c\nd,e\n'))
    expect([all(d, 0), d.preview(1)?.line]).toEqual(['a\n\nbc<|im_end|>', 5])
  })

  it('text of other encodings arrives as it is', async () => {
    const d = await build(file('good/utf16.csv'))
    const rows = [0, 1].map((i) => tokenizer.decode(d.preview(i)?.tokens.map((t) => t.id) ?? [], true))
    expect(rows).toEqual(['where?日本', 'when?🎉 now'])
  })

  it('tokenised rows are not altered, and need no tokenizer', async () => {
    const d = await buildDataset([file('good/tokens.jsonl')], null, DEFAULT_DATA_OPTIONS)
    expect([[...d.train.ids], [...d.train.labels], [...d.train.offsets]]).toEqual([
      [5, 6, 7, 8, 9, 10],
      [-100, -100, 7, 8, -100, 10],
      [0, 4, 6],
    ])
    const parquet = await buildDataset([file('good/tokens.parquet')], null, DEFAULT_DATA_OPTIONS)
    expect([[...parquet.train.ids], [...parquet.train.labels]]).toEqual([
      [5, 6, 7, 8, 9],
      [5, 6, 7, 8, 9],
    ])
  })
})

/** File, usable rows, and each row set aside: its line and what is said of it. */
const BROKEN: readonly (readonly [string, number, readonly (readonly [number, RegExp])[]])[] = [
  ['bad-json.jsonl', 3, [[3, /not valid JSON/]]],
  ['cut-off.jsonl', 3, [[4, /not valid JSON \(Unterminated string/]]],
  ['latin1.jsonl', 3, [[2, /not valid UTF-8/]]],
  ['nul.jsonl', 3, [[2, /NUL/]]],
  ['not-an-object.jsonl', 3, [[2, /this is a list/], [3, /this is a number/]]],
  ['missing-field.jsonl', 3, [[2, /"completion" is missing/], [3, /"completion" is missing/]]],
  ['empty-answers.jsonl', 3, [[2, /empty/]]],
  ['fields.csv', 2, [[3, /3 fields, and the first line names 2/], [4, /1 fields/]]],
  ['open-quote.csv', 3, [[3, /quote opened in this record is never closed/]]],
  ['stray-quote.csv', 2, [[3, /quotes in this record are misplaced/]]],
  ['mixed-encodings.csv', 2, [[3, /not valid UTF-8/]]],
  ['roles.jsonl', 1, [[2, /role "narrator"/], [3, /no assistant message/], [4, /empty list/], [5, /not a list of messages/], [6, /message 2 of "messages" has no text/]]],
  ['labels.jsonl', 1, [[2, /"labels" has 1 entries, "input_ids" 2/], [3, /not a list of whole numbers/], [4, /token 1 is 99999/], [5, /label 0 is -1/], [6, /no token in it is trained/], [7, /nothing to learn|not a list/]]],
  ['element.json', 2, [[3, /not valid JSON/], [4, /this is a number/]]],
  ['cut-off.json', 2, [[4, /never closed/]]],
  ['page.parquet', 1, [[1, /row group 1 \(rows 1 to 2\) cannot be read/]]],
] // prettier-ignore

describe('broken files: rows are set aside with line and reason, the rest train', () => {
  it.each(BROKEN)('%s', async (name, usable, aside) => {
    const d = await build(file(`broken/${name}`), { template: /roles/.test(name) ? CHATML : '' })
    expect(d.stats.usable).toBe(usable)
    expect(d.stats.setAside.map((r) => [r.file, r.line])).toEqual(aside.map(([line]) => [name, line]))
    for (const [i, [, why]] of aside.entries()) expect(d.stats.setAside[i]?.why).toMatch(why)
    expect(d.stats.rows).toBe(d.stats.usable + d.stats.bad + d.stats.empty)
  })

  it.each([
    ['cut-off.parquet', /cut-off\.parquet: the Parquet file cannot be read .*truncated/],
    ['footer.parquet', /footer\.parquet: .*footer claims 2147483648 bytes/],
    ['not.parquet', /not\.parquet: the file is not Parquet/],
    ['empty.jsonl', /empty\.jsonl: the file is empty/],
    ['blank.txt', /blank\.txt: the file holds nothing but blanks/],
    ['utf16-without-bom.txt', /UTF-16 text without a byte order mark/],
    ['packed.jsonl', /the file is gzip, not rows/],
    ['columns.csv', /columns\.csv: the columns "a", "b", "c" fit no known format.*Say which columns/],
    ['header-only.csv', /header-only\.csv: there are no rows/],
    ['not-json.jsonl', /not-json\.jsonl, line 1: no row can be read: it is not valid JSON/],
  ])('%s is refused', async (name, message) => {
    const e = await build(file(`broken/${name}`)).catch((x: unknown) => x)
    expect(e).toBeInstanceOf(DataError)
    expect((e as Error).message).toMatch(message)
  })
})

describe('buildDataset', () => {
  const rows = (n: number): string =>
    Array.from({ length: n }, (_, i) => JSON.stringify({ prompt: `What is ${i}? `, completion: `It is ${i}.` })).join('\n')

  it('refuses where nothing is trained, with the first reason', async () => {
    await expect(build(text('none.jsonl', '{"prompt":"a","completion":""}\n{"prompt":"b","completion":" "}'))).rejects.toThrow(
      /none\.jsonl, line 1: nothing can be trained: of 2 rows 0 cannot be used and 2 have no trained token/,
    )
    await expect(build(text('none.jsonl', '{"input_ids":[1,2],"labels":[-100,-100]}'))).rejects.toThrow(/nothing can be trained/)
  })

  it('refuses conversations without a template and text without a tokenizer', async () => {
    await expect(build(file('good/messages.jsonl'))).rejects.toThrow(
      /messages\.jsonl: the rows are conversations, and the model has no chat template.*Choose a template/,
    )
    await expect(buildDataset([file('good/lines.txt')], null, DEFAULT_DATA_OPTIONS)).rejects.toThrow(/lines\.txt: .*no tokenizer/)
  })

  it("names the row a template refuses, with the template's message", async () => {
    const template =
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
    const d = await build(file('good/messages.jsonl'), { template })
    expect([d.stats.usable, d.stats.setAside.map((r) => r.line)]).toEqual([1, [1, 2, 3]])
    expect(d.stats.setAside[0]?.why).toMatch(/template refuses these messages \(no system turn\)/)
  })

  it('splits by seed: both sides in file order, together every row once', async () => {
    const options = { evalFraction: 0.2, seed: 5 }
    const d = await build(text('a.jsonl', rows(50)), options)
    expect([rowCount(d.train), d.held && rowCount(d.held)]).toEqual([40, 10])
    const heldRows = Array.from({ length: 50 }, (_, i) => i).filter((i) => d.preview(i)?.held)
    expect(heldRows).toHaveLength(10)
    for (let i = 0; i < 50; i++) expect(all(d, i)).toBe(`What is ${i}? It is ${i}.<|im_end|>`)
    expect(d.held?.ids.slice(0, d.held.offsets[1])).toEqual(Int32Array.from(d.preview(heldRows[0] ?? 0)?.tokens.map((t) => t.id) ?? []))
    const again = await build(text('a.jsonl', rows(50)), options)
    const other = await build(text('a.jsonl', rows(50)), { ...options, seed: 6 })
    expect(again.dataHash).toBe(d.dataHash)
    expect(other.dataHash).not.toBe(d.dataHash)
    expect(d.dataHash).toMatch(/^[0-9a-f]{64}$/)
  })

  it('counts duplicates, and leaves them out on request', async () => {
    const source = (): ByteSource => text('a.jsonl', `${rows(5)}\n${rows(3)}`)
    const kept = await build(source())
    expect([kept.stats.usable, kept.stats.duplicates, kept.stats.setAside]).toEqual([8, 3, []])
    const dropped = await build(source(), { dedupe: true })
    expect([dropped.stats.usable, dropped.stats.duplicates, dropped.stats.rows]).toEqual([5, 3, 8])
    expect(dropped.stats.setAside.map((r) => [r.kind, r.line])).toEqual([6, 7, 8].map((line) => ['duplicate', line]))
  })

  it('counts cuts at any length without tokenising again', async () => {
    const ids = (n: number, context: number): object => ({
      input_ids: Array.from({ length: n }, (_, i) => i + 1),
      labels: Array.from({ length: n }, (_, i) => (i < context ? -100 : i + 1)),
    })
    const d = await build(text('t.jsonl', [ids(4, 2), ids(10, 2), ids(20, 15), ids(30, 1)].map((r) => JSON.stringify(r)).join('\n')), {
      seq: 12,
    })
    expect(d.stats.cut).toEqual({
      seq: 12,
      truncated: 2,
      answersCut: 2,
      lost: 1,
      trainableTokens: 2 + 8 + 0 + 11,
      totalTokens: 4 + 10 + 12 + 12,
    })
    expect(d.cut(30)).toEqual({ seq: 30, truncated: 0, answersCut: 0, lost: 0, trainableTokens: 2 + 8 + 5 + 29, totalTokens: 64 })
    expect([d.stats.trainableTokens, d.stats.totalTokens]).toEqual([44, 64])
    expect(d.stats.lengths).toMatchObject({ p50: 10, p90: 30, p99: 30, max: 30, binWidth: 1, suggestedSeq: 32 })
    expect(d.stats.lengths.bins.flatMap((n, i) => (n ? [i] : []))).toEqual([4, 10, 20, 30])
    expect(d.checks.find((c) => c.id === 'cut')).toMatchObject({ ok: false })
    expect(d.preview(3)?.tokens.map((t) => t.cut)).toEqual(Array.from({ length: 30 }, (_, i) => i >= 12))
  })

  it('several files are one data set; each has its own format and report', async () => {
    const d = await build([file('good/instruction.jsonl'), file('good/query-response.tsv'), file('good/lines.txt')])
    expect([d.name, d.stats.usable, d.files.map((f) => [f.name, f.detection.format, f.rows])]).toEqual([
      'instruction.jsonl and 2 more',
      10,
      [
        ['instruction.jsonl', 'instruction', 4],
        ['query-response.tsv', 'prompt-completion', 3],
        ['lines.txt', 'text', 3],
      ],
    ])
    expect([d.preview(4)?.file, d.preview(4)?.line, d.preview(10)]).toEqual(['query-response.tsv', 2, null])
  })

  it('reads from the columns it is told to, and says what is missing', async () => {
    const source = (): ByteSource => text('m.jsonl', '{"frage":"Was?","antwort":"Nichts.","text":"x"}')
    const d = await build(source(), { format: 'prompt-completion', mapping: { prompt: 'frage', completion: 'antwort' } })
    expect(trained(d, 0)).toBe('Nichts.<|im_end|>')
    await expect(build(source(), { format: 'prompt-completion', mapping: { prompt: 'nein' } })).rejects.toThrow(
      /m\.jsonl: as prompt-completion, the rows lack "prompt", "completion"/,
    )
  })

  it('trains on everything when told to', async () => {
    const d = await build(file('good/prompt-completion.jsonl'), { completionOnly: false })
    expect(all(d, 0)).toBe('What does the heron eat? Small fish.<|im_end|>')
    expect(d.preview(0)?.tokens.map((t) => t.trained)).toEqual(d.preview(0)?.tokens.map((_, i) => i > 0))
  })

  it('says what it checked', async () => {
    const chat = await build(file('good/messages.jsonl'), { template: CHATML })
    const texts = chat.checks.map((c) => c.text).join('\n')
    expect(texts).toMatch(/The chosen template wrote 4 rows/)
    expect(texts).toMatch(/Each row begins with <\|im_start\|>, once/)
    expect(texts).toMatch(/<\|im_end\|> ends each of 5 trained turns and is trained/)
    expect(texts).toMatch(/padding and EOS are the same token, <\|im_end\|>/)
    const open = await build(file('good/messages.jsonl'), {
      template: '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}',
    })
    expect(open.checks.find((c) => c.id === 'eos')).toMatchObject({
      ok: false,
      text: expect.stringMatching(/^5 of 5 trained turns do not end/) as string,
    })
    const twice = await build(file('good/messages.jsonl'), { template: `{{ bos_token }}${CHATML}` })
    expect(twice.checks.find((c) => c.id === 'bos')).toMatchObject({
      ok: false,
      text: expect.stringMatching(/^4 rows begin with <\|im_start\|> twice/) as string,
    })
  })

  it('reports progress to the end and stops when told to', async () => {
    const seen: number[] = []
    const source = text('a.jsonl', rows(3000))
    await buildDataset([source], tokenizer, DEFAULT_DATA_OPTIONS, { onProgress: (p) => seen.push(p.done / p.total) })
    expect(seen.at(-1)).toBe(1)
    await expect(buildDataset([source], tokenizer, DEFAULT_DATA_OPTIONS, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    })
  })
})
