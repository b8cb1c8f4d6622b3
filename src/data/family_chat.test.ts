/** Chat templates of the model families against Transformers' apply_chat_template, and the loss mask of each assistant turn against spans and tokens worked out
 * without Jinja (fixture: test/golden/chat_templates.py). The templates are this project's own words for: SmolLM2's and Qwen2's ChatML, Qwen2.5's, Qwen3's (which rewrites
 * earlier turns), Llama 3's, 3.1's and 3.2's (dated), Gemma 2's, Gemma 3's (system text in the first question) and Phi-3's; the script holds them to the models' own
 * ones, and compares those with this renderer too. Base models (GPT-2, OPT) have none. Everything must be equal. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { DataError } from '../errors.ts'
import { assistantSpans } from './chat_spans.ts'
import { RowEncoder } from './masks.ts'
import { BUILTIN_TEMPLATES, renderChat } from './template.ts'
import { loadTokenizer } from './tokenizer.ts'
import type { ChatMessage } from './types.ts'

interface Case {
  readonly family: string
  readonly chat: string
  readonly error?: string
  readonly text: string
  readonly prompt: string
  readonly spans: readonly (readonly [number, number])[]
  readonly tokens: number
  readonly trained: readonly (readonly [number, number])[]
}
interface Golden {
  readonly now: string
  readonly special: { readonly bos_token: string; readonly eos_token: string }
  readonly templates: Readonly<Record<string, string>>
  readonly chats: Readonly<Record<string, readonly ChatMessage[]>>
  readonly cases: readonly Case[]
}
const read = <T>(name: string): T =>
  JSON.parse(readFileSync(resolve(import.meta.dirname, '../../test/fixtures/data/golden', name), 'utf8')) as T
const golden = read<Golden>('family_chat.json')
const tokenizer = loadTokenizer({ tokenizer: read('bytelevel.tokenizer.json'), config: golden.special })
const context = { ...golden.special, tools: null }

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: new Date(golden.now) })
})
afterEach(() => {
  vi.useRealTimers()
})

describe.each(Object.entries(golden.templates))('%s', (family, template) => {
  const cases = golden.cases.filter((c) => c.family === family).map((c) => [c.chat, golden.chats[c.chat], c] as const)
  const render = (m: readonly ChatMessage[], addGenerationPrompt: boolean): string =>
    renderChat(template, m, { ...context, addGenerationPrompt })

  test.each(cases)('%s: text', (_, messages, c) => {
    if (c.error === undefined) expect([render(messages, false), render(messages, true)]).toEqual([c.text, c.prompt])
    else {
      expect(() => render(messages, false)).toThrow(DataError)
      expect(() => render(messages, false)).toThrow(c.error)
    }
  })
  test.each(cases.filter(([, , c]) => c.error === undefined))('%s: what is trained', (_, messages, c) => {
    const { text, spans } = assistantSpans(render, messages, 0)
    const said = (list: readonly (readonly [number, number])[]): string[] => list.map(([a, b]) => text.slice(a, b))
    expect(said(spans.map((s) => [s.start, s.end]))).toEqual(said(c.spans))
    expect(spans.map((s) => [s.start, s.end])).toEqual(c.spans)

    const row = new RowEncoder(tokenizer, { template, completionOnly: null }).encode({ kind: 'chat', messages, trainFrom: 0 })
    if (c.spans.length === 0) {
      expect(row).toBeNull()
      return
    }
    expect(row!.ids).toEqual(tokenizer.encode(c.text, false))
    expect(row!.ids).toHaveLength(c.tokens)
    expect(row!.labels).toEqual(row!.ids.map((id, i) => (c.trained.some(([a, b]) => i >= a && i < b) ? id : -100)))
  })
})

test('dates are written in English wherever the browser is', () => {
  const months = Array.from({ length: 12 }, (_, i) => {
    vi.setSystemTime(new Date(2026, i, 9, 15, 4, 5))
    return renderChat("{{ strftime_now('%d %b %B %Y-%m %H:%M:%S %y %a %A %I %p %j %%') }}", [], { ...context, addGenerationPrompt: false })
  })
  expect(months[2]).toBe('09 Mar March 2026-03 15:04:05 26 Mon Monday 03 PM 068 %')
  expect(months.map((m) => m.split(' ')[1]).join()).toBe('Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec')
})

test('a range counts as Python counts', () => {
  const render = (source: string): string => renderChat(source, [], { ...context, addGenerationPrompt: false })
  expect(render('{% for i in range(3) %}{{ i }} {% endfor %}')).toBe('0 1 2 ')
  expect(render('{% for i in range(2, 7, 2) %}{{ i }} {% endfor %}')).toBe('2 4 6 ')
  expect(render('{% for i in range(3, 0, -1) %}{{ i }} {% endfor %}')).toBe('3 2 1 ')
  expect(render('{% for i in range(3, 1) %}{{ i }} {% endfor %}.')).toBe('.')
})

test('the templates offered to models without one train what the assistant says and what ends it', () => {
  const messages = golden.chats['four turns with spaces']
  for (const [name, template] of Object.entries(BUILTIN_TEMPLATES)) {
    const { text, spans } = assistantSpans((m, open) => renderChat(template, m, { ...context, addGenerationPrompt: open }), messages, 0)
    const end = name === 'chatml' ? '<|im_end|>\n' : '<|endoftext|>\n'
    expect(spans.map((s) => text.slice(s.start, s.end))).toEqual([`  1, with spaces  ${end}`, `\n2\n\n${end}`])
  }
})
