import { readFileSync } from 'node:fs'
import { Tokenizer } from '@huggingface/tokenizers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { goldenJson } from '../../test/files.ts'
import { describeShared, sharedPath } from '../../test/shared.ts'
import { readGguf, type GgufValue } from './gguf.ts'
import { mergesFromScores, tokenizerFromGguf } from './gguf_tokenizer.ts'
import { fromPath } from './node_source.ts'

interface Golden {
  readonly model: 'gpt2' | 'llama'
  readonly pre?: string
  readonly prefix?: boolean
  readonly tokens: string[]
  readonly types: number[]
  readonly merges?: string[]
  readonly scores?: number[]
  readonly cases: readonly { readonly text: string; readonly ids: number[]; readonly decoded: string }[]
}

function metadata(g: Golden): Map<string, GgufValue> {
  const m = new Map<string, GgufValue>([
    ['tokenizer.ggml.model', g.model],
    ['tokenizer.ggml.tokens', g.tokens],
    ['tokenizer.ggml.token_type', Int32Array.from(g.types)],
    ['tokenizer.ggml.bos_token_id', g.model === 'llama' ? 1 : 0],
    ['tokenizer.ggml.eos_token_id', g.model === 'llama' ? 2 : 1],
  ])
  if (g.pre) m.set('tokenizer.ggml.pre', g.pre)
  if (g.merges) m.set('tokenizer.ggml.merges', g.merges)
  if (g.scores) m.set('tokenizer.ggml.scores', Float32Array.from(g.scores))
  if (g.prefix !== undefined) m.set('tokenizer.ggml.add_space_prefix', g.prefix)
  return m
}
const load = (m: ReadonlyMap<string, GgufValue>): Tokenizer => {
  const files = tokenizerFromGguf(m, 'x.gguf')
  if (!files) throw new Error('no tokenizer')
  return new Tokenizer(files.tokenizer as object, files.config)
}
const goldens = goldenJson('io/tokenizers.json') as Golden[]

describe('tokenizerFromGguf', () => {
  it.each(goldens.map((g) => [`${g.model} ${g.pre ?? (g.prefix ? 'with' : 'without') + ' a space before'}`, g] as const))(
    '%s gives the reference ids and text',
    (_, g) => {
      const t = load(metadata(g))
      for (const { text, ids, decoded } of g.cases) {
        expect(t.encode(text, { add_special_tokens: false }).ids, JSON.stringify(text)).toEqual(ids)
        if (ids.length) expect(t.decode(ids)).toBe(decoded)
      }
    },
  )

  it('BOS and EOS as the file says, else as the kind of tokenizer does', () => {
    const ids = (g: Golden, ...extra: [string, GgufValue][]) => load(new Map([...metadata(g), ...extra])).encode('x').ids
    const [gpt2, , llama3] = goldens
    const plain = ids(gpt2)
    expect(ids(gpt2, ['tokenizer.ggml.add_bos_token', true])).toEqual([0, ...plain])
    expect(ids(gpt2, ['tokenizer.ggml.add_bos_token', true], ['tokenizer.ggml.add_eos_token', true])).toEqual([0, ...plain, 1])
    expect(ids(llama3)[0]).toBe(0)
    expect(ids(llama3, ['tokenizer.ggml.add_bos_token', false])[0]).not.toBe(0)
    const spm = goldens.find((g) => g.model === 'llama') as Golden
    expect(ids(spm)[0]).toBe(1)
  })

  it('takes the chat template and the special tokens', () => {
    const m = new Map([...metadata(goldens[0]), ['tokenizer.chat_template', '{{ x }}'], ['tokenizer.ggml.padding_token_id', 1]] as [
      string,
      GgufValue,
    ][])
    expect(tokenizerFromGguf(m, 'x')?.config).toMatchObject({
      chat_template: '{{ x }}',
      bos_token: '<|start|>',
      eos_token: '<|end|>',
      pad_token: '<|end|>',
      add_bos_token: false,
    })
  })

  it("Phi-3's control tokens take in the spaces and line breaks after them, but for those that the model excepts", () => {
    const g = goldens.find((k) => k.prefix === true)!
    const added = ['<|endoftext|>', '<|user|>', '<|end|>', '<|assistant|>', '<think>']
    const [text, user, end, assistant, think] = added.map((_, i) => g.tokens.length + i)
    const phi3 = { ...g, tokens: [...g.tokens, ...added], types: [...g.types, 3, 3, 3, 3, 4], scores: [...g.scores!, 0, 0, 0, 0, 0] }
    phi3.types[2] = 4 // </s>, as the converter of Phi-3 writes it
    const read = (architecture: string) => {
      const t = load(metadata(phi3).set('general.architecture', architecture))
      return (s: string) => t.encode(s, { add_special_tokens: false }).ids
    }
    const plain = read('llama')
    const ids = read('phi3')
    expect(ids('<|user|>\nhello world<|end|>\n<|assistant|>\n it was over.<|end|>\n')).toEqual([
      user,
      ...plain('hello world'),
      end,
      assistant,
      ...plain('it was over.'),
      end,
    ])
    expect(ids('</s> \n')).toEqual([2])
    for (const [token, id] of Object.entries({ '<unk>': 0, '<s>': 1, '<|endoftext|>': text, '<think>': think }))
      expect(ids(`${token}\nx`), token).toEqual([id, ...plain('\nx')])
    expect(plain('<|user|>\nx')).toEqual([user, ...plain('\nx')])
  })

  it('says when there is none, or what is wrong with it', () => {
    expect(tokenizerFromGguf(new Map(), 'x.gguf')).toBeNull()
    const change = (...extra: [string, GgufValue | undefined][]) => {
      const m = new Map<string, GgufValue>(metadata(goldens[0]))
      for (const [k, v] of extra) {
        if (v === undefined) m.delete(`tokenizer.ggml.${k}`)
        else m.set(`tokenizer.ggml.${k}`, v)
      }
      return () => tokenizerFromGguf(m, 'x.gguf')
    }
    expect(change(['model', 'bert'])).toThrow(/x\.gguf, tokenizer\.ggml\.model.*"bert"/)
    expect(change(['pre', 'tekken'])).toThrow(/"tekken" is unknown.*tokenizer\.json/)
    expect(change(['pre', 'constructor'])).toThrow(/unknown/)
    expect(change(['tokens', undefined])).toThrow(/missing/)
    expect(change(['tokens', []])).toThrow(FileError)
    expect(change(['tokens', 3])).toThrow(/list of texts/)
    expect(change(['merges', undefined])).toThrow(/missing/)
    expect(change(['merges', ['a b', 'ab']])).toThrow(/Merge 2/)
    expect(change(['token_type', Int32Array.of(1)])).toThrow(/one a token/)
    expect(change(['bos_token_id', 99999])).toThrow(/no token id/)
    expect(change(['model', 'llama'])).toThrow(/scores/)
  })

  it('any metadata gives files, null or a FileError', () => {
    const value = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.array(fc.string()),
      fc.array(fc.integer()),
      fc.constant('gpt2'),
      fc.constant('llama'),
    )
    const keys = ['model', 'pre', 'tokens', 'token_type', 'scores', 'merges', 'bos_token_id', 'add_bos_token'].map(
      (k) => `tokenizer.ggml.${k}`,
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...keys), value)), fc.constantFrom('gpt2', 'llama'), (entries, model) => {
        try {
          tokenizerFromGguf(new Map<string, GgufValue>([['tokenizer.ggml.model', model], ...entries]), 'x')
        } catch (e) {
          if (!(e instanceof FileError)) throw e
        }
      }),
    )
  })

  it('"__proto__" is a token like any other', () => {
    const g = goldens[0]
    const t = load(new Map([...metadata({ ...g, tokens: [...g.tokens, '__proto__'], types: [...g.types, 1] })]))
    expect(t.token_to_id('__proto__')).toBe(g.tokens.length)
  })
})

describe('mergesFromScores', () => {
  it('rebuilds merges by falling score, never out of bytes or control tokens', () => {
    const tokens = ['<s>', 'a', 'b', 'ab', 'abb', '<0x61>']
    expect(mergesFromScores({ tokens, types: [3, 1, 1, 1, 1, 6] }, [0, -10, -11, -1, -2, 0])).toEqual([
      ['a', 'b'],
      ['ab', 'b'],
    ])
  })
})

describeShared('SmolLM2-135M-Instruct', ['models', 'smollm2-135m-instruct', 'SmolLM2-135M-Instruct.Q4_1.gguf'], (path) => {
  it('gives the ids Transformers gives', async () => {
    const { metadata: m } = await readGguf(await fromPath(path))
    const golden = JSON.parse(readFileSync(sharedPath('models/smollm2-135m-instruct/golden.json') ?? '', 'utf8')) as {
      encode: { text: string; ids: number[] }[]
      chat: { rendered: string; ids: number[] }[]
    }
    const t = load(m)
    expect(golden.encode.length).toBeGreaterThan(9)
    for (const { text, ids } of golden.encode) expect(t.encode(text).ids, text).toEqual(ids)
    for (const { rendered, ids } of golden.chat) expect(t.encode(rendered).ids).toEqual(ids)
  })
})
