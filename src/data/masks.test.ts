/** @file Loss masks where there is no reference to compare with: templates that rewrite history, EOS added by the tokenizer, speed paths against plain ones. */
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ModelError } from '../errors.ts'
import { assistantSpans } from './chat_spans.ts'
import { RowEncoder, type Example } from './masks.ts'
import { BUILTIN_TEMPLATES, renderChat } from './template.ts'
import { loadTokenizer } from './tokenizer.ts'
import type { ChatMessage, Tokenizer } from './types.ts'

const json = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(resolve(import.meta.dirname, '../../test/fixtures/data/golden', `${name}.tokenizer.json`), 'utf8')) as Record<
    string,
    unknown
  >
const bytelevel = loadTokenizer({ tokenizer: json('bytelevel'), config: { bos_token: '<|im_start|>', eos_token: '<|im_end|>' } })
const llama = loadTokenizer({ tokenizer: json('llama'), config: { bos_token: '<s>', eos_token: '</s>' } })
const chat = (...said: string[]): Example => ({
  kind: 'chat',
  trainFrom: 0,
  messages: said.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content })),
})
const trainedText = (t: Tokenizer, template: string | null, example: Example): string => {
  const e = new RowEncoder(t, { template, completionOnly: null }).encode(example)
  return (e?.ids ?? []).map((id, i) => (e?.labels[i] === id ? t.token(id) : i > 0 && e?.labels[i - 1] !== -100 ? '|' : '')).join('')
}

/** Earlier turns lose their thoughts once others follow, as with some reasoning models. */
const THINKING =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" +
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'

describe('spans of the assistant', () => {
  it('are found where a template renders earlier turns differently', () => {
    expect(trainedText(bytelevel, THINKING, chat('One?', '1', 'Two?', '2'))).toBe('1<|im_end|>\n|<think>\n\n</think>\n\n2<|im_end|>\n')
  })

  it('are found where a template has no generation prompt, or refuses a conversation that does not end in an answer', () => {
    const none = '{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}'
    expect(trainedText(bytelevel, none, chat('Hi', 'Hello', 'Why', 'So'))).toBe('[assistant] Hello<|im_end|>|[assistant] So<|im_end|>')
    const strict = `{% if messages[-1].role != 'assistant' %}{{ raise_exception('no') }}{% endif %}${none}`
    expect(trainedText(bytelevel, strict, chat('Hi', 'Hello'))).toBe(' Hello<|im_end|>'.trimStart())
  })

  it('name what a template makes unrecognisable', () => {
    const shout = '{% for m in messages %}{{ m.content | upper }}{% endfor %}'
    expect(() => trainedText(bytelevel, shout, chat('hi', 'hello'))).toThrow(/template changes the answer of message 2/)
  })

  it('begin after the prompt and end with the turn for every conversation', () =>
    fc.assert(
      fc.property(fc.array(fc.string({ unit: fc.constantFrom('a', ' ', '\n', 'é', 'yes') }).filter((s) => s.trim() !== ''), { minLength: 2, maxLength: 8 }), (said) => {
        const messages: ChatMessage[] = said.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }))
        const { text, spans } = assistantSpans((m, addGenerationPrompt) => renderChat(BUILTIN_TEMPLATES.chatml, m, { bos_token: '', eos_token: '', tools: null, addGenerationPrompt }), messages, 0)
        expect(spans.map((s) => text.slice(s.start, s.end))).toEqual(said.filter((_, i) => i % 2).map((s) => `${s}<|im_end|>\n`))
      }),
    )) // prettier-ignore
})

describe('RowEncoder', () => {
  it.each([
    ['bytelevel', bytelevel],
    ['llama', llama],
  ])('once warm it gives what it gave while it compared each row (%s)', (_, tokenizer) => {
    const options = { template: BUILTIN_TEMPLATES.chatml, completionOnly: null }
    const warm = new RowEncoder(tokenizer, options)
    for (let i = 0; i < 40; i++) warm.encode(chat('What?', `That ${i}`))
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: fc.constantFrom('a', 'the ', ' ', '\n', 'é', '<|im_end|>', '<|im_start|>', '1') }), {
          minLength: 2,
          maxLength: 6,
        }),
        (said) => {
          expect(warm.encode(chat(...said))).toEqual(new RowEncoder(tokenizer, options).encode(chat(...said)))
        },
      ),
      { numRuns: 300 },
    )
  })

  it('does not double an EOS that the tokenizer or the text already has', () => {
    const adds = loadTokenizer({
      tokenizer: json('llama'),
      config: { bos_token: '<s>', eos_token: '</s>', add_bos_token: true, add_eos_token: true },
    })
    const ids = (t: Tokenizer, e: Example): number[] => [
      ...(new RowEncoder(t, { template: null, completionOnly: null }).encode(e)?.ids ?? []),
    ]
    const pair: Example = { kind: 'completion', prompt: 'a\n', completion: 'b', messages: [] }
    expect(ids(adds, pair)).toEqual(ids(llama, pair))
    expect(ids(llama, { ...pair, completion: 'b</s>' })).toEqual(ids(llama, pair))
    expect(ids(llama, pair).filter((id) => id === llama.eosId)).toHaveLength(1)
  })

  it('leaves tokenised rows alone', () => {
    const e = new RowEncoder(null, { template: BUILTIN_TEMPLATES.chatml, completionOnly: false })
    expect(e.encode({ kind: 'tokens', ids: [3, 1, 2], labels: [-100, 7, 2] })).toEqual({ ids: [3, 1, 2], labels: [-100, 7, 2] })
    expect(e.encode({ kind: 'tokens', ids: [3, 1], labels: null })).toEqual({ ids: [3, 1], labels: [3, 1] })
  })
})

describe('loadTokenizer', () => {
  it.each([
    ['no file', null, /tokenizer\.json: the model has no tokenizer/],
    ['a list', [], /not a JSON object/],
    ['an empty object', {}, /no "model"/],
    ['an empty vocabulary', { model: { type: 'BPE', vocab: {}, merges: [] } }, /vocabulary is empty/],
    ['an empty Unigram vocabulary', { model: { type: 'Unigram', vocab: [] } }, /vocabulary is empty/],
    ['no merges', { model: { type: 'BPE', vocab: { a: 0 } } }, /no merges/],
    ['an id that is none', { model: { type: 'BPE', vocab: { a: -1 }, merges: [] } }, /token "a" has the id -1/],
    ['an unknown model', { model: { type: 'Nonsense', vocab: { a: 0 } } }, /model type "Nonsense" is unknown/],
    [
      'added tokens without ids',
      { model: { type: 'BPE', vocab: { a: 0 }, merges: [] }, added_tokens: [{ content: 'x' }] },
      /added token 0/,
    ],
  ])('refuses %s', (_, tokenizer, message) => {
    const load = (): Tokenizer => loadTokenizer({ tokenizer, config: {} })
    expect(load).toThrow(ModelError)
    expect(load).toThrow(message)
    expect(load).toThrow(/Add the tokenizer\.json/)
  })

  it('any JSON is a tokenizer or a ModelError', () =>
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (model, added_tokens) => {
        for (const tokenizer of [
          model,
          { model, added_tokens },
          { ...json('bytelevel'), added_tokens },
          { ...json('bytelevel'), decoder: model, normalizer: added_tokens },
        ])
          try {
            loadTokenizer({ tokenizer, config: {} })
          } catch (e) {
            expect(e).toBeInstanceOf(ModelError)
          }
      }),
    ))

  it('takes BOS, EOS and the template from where they are', () => {
    const t = loadTokenizer({
      tokenizer: json('llama'),
      config: {
        chat_template: [
          { name: 'tools', template: 'T' },
          { name: 'default', template: 'D' },
        ],
        pad_token: { content: '</s>' },
      },
    })
    expect([t.bosId, t.eosId, t.padId, t.chatTemplate]).toEqual([llama.bosId, llama.eosId, llama.eosId, 'D'])
    const more = loadTokenizer({
      tokenizer: json('llama'),
      config: { added_tokens_decoder: { 900: { content: '<extra>', special: true } } },
    })
    expect([more.encode('a<extra>', false).at(-1), more.vocabSize, more.isSpecial(900)]).toEqual([900, 901, true])
  })

  it('shows tokens as they look', () => {
    const shown = (t: Tokenizer, text: string): string[] => t.encode(text, false).map((id) => t.token(id))
    expect(shown(bytelevel, 'the tide\n').join('')).toBe('the tide\n')
    expect(shown(bytelevel, '🎉').join('')).toBe('\\xF0\\x9F\\x8E\\x89')
    expect(shown(llama, 'the tide').join('')).toBe(' the tide')
    expect(bytelevel.decode([], true)).toBe('')
  })
})
