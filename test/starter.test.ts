/** @file The bundled starter model and samples: files complete and small, tokens as Transformers gives them, every sample row usable. */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { describe, expect, it } from 'vitest'

const ROOT = resolve(import.meta.dirname, '..')
const STARTER = resolve(ROOT, 'public/starter')
const SAMPLES = resolve(ROOT, 'public/samples')
const read = (...p: string[]): string => readFileSync(resolve(...p), 'utf8')

interface Golden {
  readonly sha256: Readonly<Record<string, string>>
  readonly parameters: number
  readonly tokens: readonly { text: string; ids: number[]; ids_special: number[]; decoded: string }[]
}
const golden = JSON.parse(read(import.meta.dirname, 'golden/starter.json')) as Golden
const tokenizer = new Tokenizer(
  JSON.parse(read(STARTER, 'tokenizer.json')) as object,
  JSON.parse(read(STARTER, 'tokenizer_config.json')) as object,
)
const ids = (text: string, special: boolean): number[] => tokenizer.encode(text, { add_special_tokens: special }).ids

describe('starter model files', () => {
  it('are those the golden file was made of, and at most 4 MB together', () => {
    for (const [name, hash] of Object.entries(golden.sha256))
      expect(
        createHash('sha256')
          .update(readFileSync(resolve(STARTER, name)))
          .digest('hex'),
        name,
      ).toBe(hash)
    const bytes = readdirSync(STARTER).reduce((sum, name) => sum + statSync(resolve(STARTER, name)).size, 0)
    expect(bytes).toBeLessThanOrEqual(4_000_000)
  })

  it('hold float16 tensors of the shapes that config.json asks for, without gaps', () => {
    const file = readFileSync(resolve(STARTER, 'model.safetensors'))
    const length = Number(file.readBigUInt64LE(0))
    const header = JSON.parse(file.subarray(8, 8 + length).toString()) as Record<string, { dtype: string; shape: number[] }>
    const c = JSON.parse(read(STARTER, 'config.json')) as Record<string, number>
    const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__')
    expect(tensors).toHaveLength(2 + 9 * (c['num_hidden_layers'] ?? 0))
    expect(tensors.every(([, t]) => t.dtype === 'F16')).toBe(true)
    expect(header['model.embed_tokens.weight']?.shape).toEqual([c['vocab_size'], c['hidden_size']])
    const values = tensors.reduce((sum, [, t]) => sum + t.shape.reduce((a, b) => a * b, 1), 0)
    expect(values).toBe(golden.parameters)
    expect(file.length).toBe(8 + length + 2 * values)
  })

  it.each(golden.tokens)('tokenise $text as Transformers does, and back', ({ text, ids: plain, ids_special, decoded }) => {
    expect(ids(text, false)).toEqual(plain)
    expect(ids(text, true)).toEqual(ids_special)
    if (plain.length) expect(tokenizer.decode(plain, { skip_special_tokens: false })).toBe(decoded)
    if (!text.includes('<|endoftext|>')) expect(decoded).toBe(text)
  })
})

describe('samples', () => {
  const jsonl = (name: string): Record<string, unknown>[] =>
    read(SAMPLES, name)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)

  it('have at least 300 rows to train and 40 held out, none in both, each at most 128 tokens with its BOS and EOS', () => {
    const train = jsonl('story-morals.jsonl')
    const held = jsonl('story-morals.heldout.jsonl')
    const other = jsonl('story-morals.newplots.jsonl')
    expect(train.length).toBeGreaterThanOrEqual(300)
    expect(held.length).toBeGreaterThanOrEqual(40)
    const prompts = new Set(train.map((r) => r['prompt']))
    expect(prompts.size).toBe(train.length)
    for (const row of [...train, ...held, ...other]) {
      expect(String(row['completion'])).toMatch(/^Moral: [A-Z].*\.$/)
      expect(ids(String(row['prompt']) + String(row['completion']), true).length + 1).toBeLessThanOrEqual(128)
    }
    expect([...held, ...other].filter((r) => prompts.has(r['prompt']))).toEqual([])
  })

  it('have a CSV of instructions and a file of conversations', () => {
    const [head, ...rows] = read(SAMPLES, 'pirate-answers.csv').trimEnd().split(/\r?\n/)
    expect(head).toBe('instruction,output')
    expect(rows.every((r) => r.endsWith(', matey!"'))).toBe(true)
    for (const { messages } of jsonl('butler-chat.messages.jsonl') as unknown as { messages: { role: string; content: string }[] }[])
      expect(messages.map((m) => m.role).join(' ')).toMatch(/^system( user assistant)+$/)
  })
})
