/**
 * @file The tokenizer inside a GGUF file as the tokenizer.json and tokenizer_config.json it was made from. Knows two kinds: `gpt2` (byte-level BPE) and `llama`
 * (SentencePiece BPE, whose merges are rebuilt from scores).
 */
import { FileError } from '../errors.ts'
import { PRE_NAMES, preTokenizer } from './gguf_pre.ts'
import type { GgufValue } from './gguf.ts'
import type { TokenizerFiles } from './tokenizer_files.ts'

type Metadata = ReadonlyMap<string, GgufValue>
/** Token types of `tokenizer.ggml.token_type` (llama.cpp, enum llama_token_type). */
const [NORMAL, UNKNOWN, CONTROL, USER_DEFINED] = [1, 2, 3, 4]

interface Vocabulary {
  readonly tokens: readonly string[]
  readonly types: ArrayLike<number>
}

const KEY = 'tokenizer.ggml.'
const FIX = 'Put the tokenizer.json of the model beside the file, or use another file'
const fail = (where: string, key: string, what: string): never => {
  throw new FileError(what, { where: `${where}, ${KEY}${key}`, why: 'Text cannot be turned into the tokens this model knows', fix: FIX })
}

const flag = (m: Metadata, key: string, fallback: boolean): boolean => {
  const v = m.get(KEY + key)
  return typeof v === 'boolean' ? v : fallback
}
const isStrings = (v: unknown): v is readonly string[] => Array.isArray(v) && v.every((s) => typeof s === 'string')

function numbers(m: Metadata, key: string, length: number, where: string): ArrayLike<number> | null {
  const v = m.get(KEY + key)
  if (v === undefined) return null
  const isNumbers = ArrayBuffer.isView(v) || (Array.isArray(v) && v.every((x) => typeof x === 'number'))
  if (!isNumbers || (v as ArrayLike<number>).length !== length) return fail(where, key, `It should be ${length} numbers, one a token`)
  return v
}

function vocabulary(m: Metadata, where: string): Vocabulary {
  const tokens = m.get(`${KEY}tokens`)
  if (!isStrings(tokens) || tokens.length === 0)
    return fail(where, 'tokens', tokens === undefined ? 'It is missing' : 'It is not a list of texts')
  return { tokens, types: numbers(m, 'token_type', tokens.length, where) ?? new Int32Array(tokens.length).fill(NORMAL) }
}

/** Token text of an id in the metadata, null where there is none. */
function named(m: Metadata, key: string, tokens: readonly string[], where: string): string | null {
  const id = m.get(KEY + key)
  if (id === undefined) return null
  if (typeof id !== 'number' || tokens[id] === undefined)
    return fail(where, key, `It is ${String(id)}, which is no token id below ${tokens.length}`)
  return tokens[id]
}

/** Tokens of Phi-3 that leave the spaces and line breaks after them: all the others of its SentencePiece vocabulary take them in. GGUF does not keep that, and
 * llama.cpp knows it by the model too (llama-vocab.cpp, LLAMA_TOKEN_ATTR_RSTRIP). */
const PHI3_KEEPS_SPACES: readonly string[] = ['<unk>', '<s>', '<|endoftext|>']

/** Control, user-defined and unknown tokens, as tokenizer.json's `added_tokens`.
 * @param phi3 whether they are Phi-3's, of which `</s>` is user-defined and takes in spaces as its control tokens do */
function addedTokens({ tokens, types }: Vocabulary, phi3: boolean): object[] {
  return tokens.flatMap((content, id) => {
    const type = types[id]
    const added = type === CONTROL || type === USER_DEFINED || type === UNKNOWN
    const rstrip = phi3 && !PHI3_KEEPS_SPACES.includes(content) && (type === CONTROL || content === '</s>')
    const flags = { single_word: false, lstrip: false, rstrip, normalized: false }
    return added && content !== '' ? [{ id, content, ...flags, special: type !== USER_DEFINED }] : []
  })
}

function byteLevelModel(m: Metadata, { tokens }: Vocabulary, where: string) {
  const pre = m.get(`${KEY}pre`) ?? 'default'
  const parts = preTokenizer(String(pre))
  if (!parts) return fail(where, 'pre', `The pre-tokenizer "${String(pre)}" is unknown; known are ${PRE_NAMES.join(', ')}`)
  const merges = m.get(`${KEY}merges`)
  if (!isStrings(merges)) return fail(where, 'merges', merges === undefined ? 'It is missing' : 'It is not a list of texts')
  const bad = merges.findIndex((s) => !/^[^ ]+ [^ ]+$/.test(s))
  if (bad >= 0)
    fail(where, 'merges', `Merge ${bad + 1}, ${JSON.stringify(merges[bad].slice(0, 50))}, is not two pieces with a space between`)
  const unk = named(m, 'unknown_token_id', tokens, where)
  const model = {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
  }
  return {
    unk,
    addBos: parts.addBos,
    json: {
      normalizer: parts.normalizer,
      pre_tokenizer: parts.pre_tokenizer,
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: { ...model, ignore_merges: parts.ignore_merges, vocab: vocabMap(tokens), merges },
    },
  }
}

/** Pieces to ids; the first of equal pieces counts. `fromEntries` makes "__proto__" an entry like any other. */
const vocabMap = (tokens: readonly string[]): Readonly<Record<string, number>> =>
  Object.fromEntries(tokens.map((t, id) => [t, id] as const).reverse())

/**
 * Merges of SentencePiece BPE: any two pieces that make a third may merge, the best score first (Kudo and Richardson 2018; as Transformers'
 * `generate_merges`). [left, right], best first.
 */
export function mergesFromScores({ tokens, types }: Vocabulary, scores: ArrayLike<number>): [string, string][] {
  const mergeable = (id: number): boolean => types[id] === NORMAL || types[id] === USER_DEFINED
  const pieces = new Set(tokens.filter((_, id) => mergeable(id)))
  const order = [...tokens.keys()].filter(mergeable).sort((a, b) => scores[b] - scores[a] || a - b)
  return order.flatMap((id) => {
    const chars = Array.from(tokens[id])
    const out: [string, string][] = []
    for (let i = 1; i < chars.length; i++) {
      const [left, right] = [chars.slice(0, i).join(''), chars.slice(i).join('')]
      if (pieces.has(left) && pieces.has(right)) out.push([left, right])
    }
    return out
  })
}

function sentencePieceModel(m: Metadata, vocab: Vocabulary, where: string) {
  const { tokens, types } = vocab
  const scores = numbers(m, 'scores', tokens.length, where)
  if (!scores) return fail(where, 'scores', 'It is missing')
  const prefix = flag(m, 'add_space_prefix', true)
  const unk = named(m, 'unknown_token_id', tokens, where) ?? tokens.find((_, id) => types[id] === UNKNOWN) ?? null
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  const decoders: object[] = [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }]
  if (prefix) decoders.push({ type: 'Strip', content: ' ', start: 1, stop: 0 })
  const model = {
    type: 'BPE',
    dropout: null,
    unk_token: unk,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: true,
    byte_fallback: true,
  }
  return {
    unk,
    addBos: true,
    json: {
      normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] } : replace,
      pre_tokenizer: null,
      decoder: { type: 'Sequence', decoders },
      model: { ...model, ignore_merges: false, vocab: vocabMap(tokens), merges: mergesFromScores(vocab, scores) },
    },
  }
}

/** TemplateProcessing that puts BOS before and EOS after a text. */
function postProcessor(before: string | null, after: string | null, tokens: readonly string[]): object {
  const special = (t: string | null): object[] => (t === null ? [] : [{ SpecialToken: { id: t, type_id: 0 } }])
  const part = (id: string): object[] => [...special(before), { Sequence: { id, type_id: 0 } }, ...special(after)]
  const entries = [before, after].flatMap((t) => (t === null ? [] : [[t, { id: t, ids: [tokens.indexOf(t)], tokens: [t] }]]))
  return {
    type: 'TemplateProcessing',
    single: part('A'),
    pair: [...part('A'), ...part('B')],
    special_tokens: Object.fromEntries(entries) as object,
  }
}

/**
 * Tokenizer files of a GGUF file.
 * @param where the file's name, for messages.
 * @returns null where the file has no tokenizer at all.
 * @throws FileError where it has one of an unknown kind, or a damaged one.
 */
export function tokenizerFromGguf(m: Metadata, where: string): TokenizerFiles | null {
  const kind = m.get(`${KEY}model`)
  if (kind === undefined || kind === 'none' || kind === 'no_vocab') return null
  if (kind !== 'gpt2' && kind !== 'llama')
    return fail(
      where,
      'model',
      `The tokenizer kind ${JSON.stringify(kind)} is unknown; known are gpt2 (byte-level BPE) and llama (SentencePiece)`,
    )
  const vocab = vocabulary(m, where)
  const { tokens } = vocab
  const { unk, addBos, json } = kind === 'gpt2' ? byteLevelModel(m, vocab, where) : sentencePieceModel(m, vocab, where)
  const bos = named(m, 'bos_token_id', tokens, where)
  const eos = named(m, 'eos_token_id', tokens, where)
  const pad = named(m, 'padding_token_id', tokens, where)
  const add_bos_token = flag(m, 'add_bos_token', addBos) && bos !== null
  const add_eos_token = flag(m, 'add_eos_token', false) && eos !== null
  const template = m.get('tokenizer.chat_template')
  const config: Record<string, unknown> = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    add_bos_token,
    add_eos_token,
    clean_up_tokenization_spaces: false,
  }
  for (const [key, token] of Object.entries({ bos_token: bos, eos_token: eos, pad_token: pad, unk_token: unk }))
    if (token !== null) config[key] = token
  if (typeof template === 'string') config.chat_template = template
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocab, kind === 'llama' && m.get('general.architecture') === 'phi3'),
    ...json,
    post_processor: postProcessor(add_bos_token ? bos : null, add_eos_token ? eos : null, tokens),
  }
  return { tokenizer, config }
}
