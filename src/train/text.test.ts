import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BUILTIN_TEMPLATES } from '../data/template.ts'
import { loadTokenizer } from '../data/tokenizer.ts'
import { ModelError } from '../errors.ts'
import { ownTemplate, readPrompt, TextStream } from './text.ts'

/** A byte-level tokenizer: an id is a byte. */
const bytes = { decode: (ids: readonly number[]) => new TextDecoder().decode(Uint8Array.from(ids)) }
/** One that, like SentencePiece, writes no space before the first word. */
const words = {
  decode: (ids: readonly number[]) =>
    ids
      .map((i) => ['▁Once', '▁upon', 'on', '▁a'][i])
      .join('')
      .replaceAll('▁', ' ')
      .slice(1),
}
const idsOf = (text: string): number[] => [...new TextEncoder().encode(text)]

function stream(text: string, stop: readonly string[] = []): { pieces: string[]; s: TextStream } {
  const s = new TextStream(bytes, idsOf('a prompt: '), stop)
  const pieces: string[] = []
  for (const id of idsOf(text)) {
    pieces.push(s.push(id))
    if (s.ended) break
  }
  pieces.push(s.finish())
  return { pieces, s }
}

describe('text of ids as they are made', () => {
  test.each(['plain words', 'naïve café', '日本語 and 👩‍👩‍👧 families', '\ud83d\ude00'])('%s comes whole, never half a character', (text) => {
    const { pieces, s } = stream(text)
    expect(pieces.join('')).toBe(text)
    expect(s.text).toBe(text)
    for (const p of pieces) expect(p).not.toContain('\ufffd')
  })
  test('a character that is never finished is shown as such at the end', () => {
    const s = new TextStream(bytes, [], [])
    expect([0xe6, 0x97].map((b) => s.push(b))).toEqual(['', ''])
    expect(s.finish()).toBe('\ufffd')
  })
  test('a space before the first new word is kept', () => {
    const s = new TextStream(words, [0], [])
    expect([1, 2, 3].map((id) => s.push(id)).join('')).toBe(' uponon a')
  })
  test('it ends before a stop text and never shows a part of it', () => {
    const { pieces, s } = stream('one two\nUser: three', ['\nUser:', 'never'])
    expect(pieces.join('')).toBe('one two')
    expect(s.ended).toBe(true)
  })
  test('what only looked like a stop text comes after all', () => {
    const { pieces, s } = stream('a\nUs', ['\nUser:'])
    expect(pieces.join('')).toBe('a\nUs')
    expect(s.ended).toBe(false)
  })
  test('many tokens cost the same each: only the end is decoded again', () => {
    let longest = 0
    const counted = { decode: (ids: readonly number[]) => ((longest = Math.max(longest, ids.length)), bytes.decode(ids)) }
    const s = new TextStream(counted, [], [])
    for (const id of idsOf('x'.repeat(5000))) s.push(id)
    s.finish()
    expect(s.text.length).toBe(5000)
    expect(longest).toBeLessThan(20)
  })
})

describe('prompts', () => {
  const read = <T>(name: string): T =>
    JSON.parse(readFileSync(resolve(import.meta.dirname, '../../test/fixtures/data/golden', name), 'utf8')) as T
  const { templates, special } = read<{ templates: Record<string, string>; special: Record<string, string> }>('family_chat.json')
  const tokenizer = loadTokenizer({ tokenizer: read('bytelevel.tokenizer.json'), config: special })
  const ask = (template: string | null) => {
    const { ids, stopIds, stop } = readPrompt(tokenizer, 'Why?', template)
    return { text: tokenizer.decode(ids, false), stops: stopIds.map((id) => tokenizer.token(id)), stop }
  }
  test('plain text is as it is, and nothing but the model ends it', () => {
    expect(ask(null)).toEqual({ text: 'Why?', stops: [], stop: [] })
    expect(readPrompt(tokenizer, '', null).ids).toEqual([tokenizer.bosId])
  })
  test("a chat template opens the answer, and the answer ends with the template's own token", () => {
    expect(ask(BUILTIN_TEMPLATES.chatml)).toEqual({
      text: '<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n',
      stops: ['<|im_end|>'],
      stop: [],
    })
    expect(ask(BUILTIN_TEMPLATES.plain)).toEqual({ text: '<|endoftext|>Why?\n', stops: ['<|endoftext|>'], stop: [] })
    expect(ask(templates.gemma2)).toMatchObject({ stops: ['<end_of_turn>'], stop: [] })
    expect(ask(templates.gemma3)).toMatchObject({ stops: ['<end_of_turn>'], stop: [] })
    expect(ask(templates['llama3.2'])).toMatchObject({ stops: ['<|eot_id|>'], stop: [] })
    expect(ask(templates.qwen3)).toMatchObject({ stops: ['<|im_end|>'], stop: [] })
  })
  test('or with its text, where that is no token of the model', () => {
    expect(ask(templates.phi3)).toEqual({ text: '<|user|>\nWhy?<|end|>\n<|assistant|>\n', stops: [], stop: ['<|end|>'] })
  })
  test('without a template of its own a model cannot be asked through it', () => {
    expect(() => ownTemplate(tokenizer)).toThrow(ModelError)
    expect(ownTemplate({ ...tokenizer, chatTemplate: 'x' })).toBe('x')
  })
})
