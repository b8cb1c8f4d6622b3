/** @file Ids, rendered chats and loss masks against tokenizers, Transformers and TRL (fixtures by test/golden/data_fixtures.py). All must be equal. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { describeShared, sharedPath } from '../../test/shared.ts'
import { readGguf } from '../io/gguf.ts'
import { tokenizerFromGguf } from '../io/gguf_tokenizer.ts'
import { fromPath } from '../io/node_source.ts'
import { buildDataset } from './dataset.ts'
import { RowEncoder, type Example } from './masks.ts'
import { DEFAULT_DATA_OPTIONS } from './report.ts'
import { renderChat } from './template.ts'
import { loadTokenizer } from './tokenizer.ts'
import type { ChatMessage, Tokenizer } from './types.ts'

const read = <T>(...p: string[]): T =>
  JSON.parse(readFileSync(resolve(import.meta.dirname, '../../test/fixtures/data/golden', ...p), 'utf8')) as T
interface Golden {
  templates: Record<string, string>
  configs: Record<string, Record<string, unknown>>
  encode: { tokenizer: string; text: string; special: number[]; plain: number[] }[]
  decode: { tokenizer: string; ids: number[]; all: string; skip: string }[]
  chat: {
    tokenizer: string
    template: string
    case: string
    messages: ChatMessage[]
    text?: string
    prompt?: string
    ids?: number[]
    error?: string
  }[]
}
interface Mask {
  tokenizer: string
  template: string | null
  case: string
  row: { messages?: ChatMessage[]; text?: string; prompt?: string | ChatMessage[]; completion?: string | ChatMessage[] }
  ids: number[]
  labels: number[]
}
const golden = read<Golden>('chat.json')
const tokenizers = new Map(
  ['bytelevel', 'llama'].map((n) => [n, loadTokenizer({ tokenizer: read(`${n}.tokenizer.json`), config: golden.configs[n] ?? {} })]),
)
const get = (name: string): Tokenizer => {
  const t = tokenizers.get(name)
  if (!t) throw new Error(name)
  return t
}
const tokenText = (t: Tokenizer, id: number | null): string => (id === null ? '' : t.token(id))

describe('tokenizer, against tokenizers', () => {
  it.each(golden.encode.map((e) => [e.tokenizer, JSON.stringify(e.text), e] as const))('%s encodes %s', (_, __, e) => {
    expect([get(e.tokenizer).encode(e.text, true), get(e.tokenizer).encode(e.text, false)]).toEqual([e.special, e.plain])
  })
  it.each(golden.decode.map((e) => [e.tokenizer, JSON.stringify(e.all), e] as const))('%s decodes %s', (_, __, e) => {
    expect([get(e.tokenizer).decode(e.ids, false), get(e.tokenizer).decode(e.ids, true)]).toEqual([e.all, e.skip])
  })
})

describe('chat templates, against apply_chat_template', () => {
  it.each(golden.chat.map((c) => [c.tokenizer, c.template, c.case, c] as const))('%s, %s: %s', (_, __, ___, c) => {
    const t = get(c.tokenizer)
    const context = { bos_token: tokenText(t, t.bosId), eos_token: tokenText(t, t.eosId), tools: null, where: 'rows.jsonl, line 3' }
    const render = (addGenerationPrompt: boolean): string =>
      renderChat(golden.templates[c.template] ?? '', c.messages, { ...context, addGenerationPrompt })
    if (c.error !== undefined) {
      expect(() => render(false)).toThrow(new RegExp(`^rows.jsonl, line 3: .*${c.error.replaceAll(/[.*/]/g, '.')}`))
      return
    }
    expect([render(true), render(false), t.encode(render(false), false)]).toEqual([c.prompt, c.text, c.ids])
  })
})

/** The example a fixture's row stands for. */
function example({ row }: Mask): Example {
  if (row.messages) return { kind: 'chat', messages: row.messages, trainFrom: 0 }
  if (row.text !== undefined) return { kind: 'text', text: row.text }
  if (Array.isArray(row.prompt) && Array.isArray(row.completion))
    return { kind: 'chat', messages: [...row.prompt, ...row.completion], trainFrom: row.prompt.length }
  return { kind: 'completion', prompt: row.prompt as string, completion: row.completion as string, messages: [] }
}

describe("ids and labels, against what TRL's SFTTrainer collates", () => {
  it.each(read<Mask[]>('masks.json').map((m) => [m.tokenizer, m.template ?? 'no template', m.case, m] as const))(
    '%s, %s: %s',
    (_, __, ___, m) => {
      const encoder = new RowEncoder(get(m.tokenizer), {
        template: m.template && (golden.templates[m.template] ?? null),
        completionOnly: null,
      })
      const got = encoder.encode(example(m))
      expect(got?.ids).toEqual(m.ids)
      expect(got?.labels).toEqual(m.labels)
    },
  )
})

describeShared('stories260K', ['models', 'stories260K'], (path) => {
  const json = (name: string): unknown => JSON.parse(readFileSync(resolve(path, name), 'utf8'))
  const t = (): Tokenizer =>
    loadTokenizer({ tokenizer: json('tokenizer.json'), config: json('tokenizer_config.json') as Record<string, unknown> })
  it('encodes and decodes as its golden file', () => {
    const g = json('golden.json') as { encode: { text: string; ids: number[] }[]; greedy_ids: number[]; greedy_text: string }
    for (const e of g.encode) expect(t().encode(e.text, true)).toEqual(e.ids)
    expect(t().decode(g.greedy_ids, true).trim()).toBe(g.greedy_text.trim())
    expect([t().bosId, t().eosId, t().vocabSize]).toEqual([1, 2, 512])
  })
})

describeShared('SmolLM2-135M-Instruct', ['models', 'smollm2-135m-instruct'], (path) => {
  const load = async (): Promise<Tokenizer> => {
    const gguf = await readGguf(await fromPath(resolve(path, 'SmolLM2-135M-Instruct.Q4_1.gguf')))
    const files = tokenizerFromGguf(gguf.metadata, 'gguf')
    if (!files) throw new Error('the GGUF has no tokenizer')
    return loadTokenizer(files)
  }
  interface Chat {
    messages: ChatMessage[]
    rendered: string
    ids: number[]
  }

  it('encodes, renders chats and encodes them as its golden file', async () => {
    const t = await load()
    const g = JSON.parse(readFileSync(resolve(path, 'golden.json'), 'utf8')) as { encode: { text: string; ids: number[] }[]; chat: Chat[] }
    for (const e of g.encode) expect(t.encode(e.text, true)).toEqual(e.ids)
    for (const c of g.chat) {
      const context = {
        bos_token: tokenText(t, t.bosId),
        eos_token: tokenText(t, t.eosId),
        addGenerationPrompt: c.messages.at(-1)?.role !== 'assistant',
        tools: null,
      }
      const text = renderChat(t.chatTemplate ?? '', c.messages, context)
      expect([text, t.encode(text, false)]).toEqual([c.rendered, c.ids])
    }
  })

  it('rows of instructions give the ids and labels of the reference run', async () => {
    const file = sharedPath('data', 'devils-dictionary.sft.jsonl')
    const run = sharedPath('goldens', 'trajectories', 'smollm2-135m-lora', 'data.jsonl')
    if (!file || !run) throw new Error('the model is there without its data')
    const { train } = await buildDataset([await fromPath(file)], await load(), DEFAULT_DATA_OPTIONS)
    const known = new Map<string, Int32Array>()
    train.offsets
      .slice(1)
      .forEach((to, r) => known.set(train.ids.slice(train.offsets[r], to).join(), train.labels.slice(train.offsets[r], to)))
    const rows = readFileSync(run, 'utf8')
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l) as { input_ids: number[]; labels: number[] })
    // Rows of the run that were cut to its length are no whole rows of the file.
    const whole = rows.filter((r) => r.input_ids.at(-1) === 198)
    expect(whole.length).toBeGreaterThan(rows.length / 2)
    for (const r of whole) expect(Array.from(known.get(r.input_ids.join()) ?? [])).toEqual(r.labels)
  })
})
