/** @file A model's tokenizer from its Hugging Face files. Broken or missing files are a ModelError; the rules for BOS and EOS are Transformers'. */
import { Tokenizer as HubTokenizer } from '@huggingface/tokenizers'
import { ModelError } from '../errors.ts'
import { isObject, type JsonObject as Json } from '../io/json.ts'
import { byteToken } from './token_text.ts'
import type { Tokenizer, TokenizerFiles } from './types.ts'

interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
}

const FIX = 'Add the tokenizer.json and tokenizer_config.json that belong to the model'
const fail = (what: string, where: string): never => {
  throw new ModelError(what, { where, why: 'Text cannot be turned into the tokens this model knows', fix: FIX })
}

/** End-of-text tokens by convention, tried in this order where tokenizer_config.json names none. */
const USUAL_EOS = ['</s>', '<|endoftext|>', '<|end_of_text|>', '<eos>', '<|im_end|>', '<|eot_id|>']

const MODELS = ['BPE', 'WordPiece', 'Unigram']

/** A special token in tokenizer_config.json is its text, or an object with `content`. */
const named = (config: Json, key: string): string | null => {
  const v = config[key]
  if (typeof v === 'string') return v
  return isObject(v) && typeof v['content'] === 'string' ? v['content'] : null
}

/** The chat template: a string, or a list of named ones of which `default` is taken. */
function chatTemplate(config: Json): string | null {
  const t = config['chat_template']
  if (typeof t === 'string') return t.trim() ? t : null
  if (!Array.isArray(t)) return null
  const list = t.filter(
    (e): e is { name: string; template: string } => isObject(e) && typeof e['name'] === 'string' && typeof e['template'] === 'string',
  )
  return (list.find((e) => e.name === 'default') ?? list[0])?.template ?? null
}

/** Added tokens of tokenizer.json, and those only tokenizer_config.json's `added_tokens_decoder` knows. */
function addedTokens(json: Json, config: Json): AddedToken[] {
  const listed = json['added_tokens'] ?? []
  if (!Array.isArray(listed)) return fail('"added_tokens" is not a list', 'tokenizer.json')
  const tokens = listed.map((t: unknown, i): AddedToken => {
    if (!isObject(t) || typeof t['content'] !== 'string' || !Number.isSafeInteger(t['id']) || Number(t['id']) < 0)
      return fail(`added token ${i} has no usable "id" and "content"`, 'tokenizer.json')
    return { ...t, id: Number(t['id']), content: t['content'], special: t['special'] === true }
  })
  const known = new Set(tokens.map((t) => t.content))
  const decoder = isObject(config['added_tokens_decoder']) ? config['added_tokens_decoder'] : {}
  for (const [id, t] of Object.entries(decoder))
    if (/^\d+$/.test(id) && isObject(t) && typeof t['content'] === 'string' && !known.has(t['content']))
      tokens.push({ ...t, id: Number(id), content: t['content'], special: t['special'] === true })
  return tokens
}

/** Entries of the model's vocabulary with the largest id. BPE and WordPiece keep an object, Unigram a list of [piece, score]. */
function vocabulary(json: Json): { size: number; id: (token: string) => number | undefined } {
  const model = json['model']
  if (!isObject(model)) return fail('there is no "model" in it', 'tokenizer.json')
  const kind = model['type']
  if (kind !== undefined && !MODELS.some((m) => m === kind))
    return fail(`the model type ${JSON.stringify(kind)} is unknown; known are ${MODELS.join(', ')}`, 'tokenizer.json, model.type')
  const vocab = model['vocab']
  if (Array.isArray(vocab)) {
    const ids = new Map(vocab.map((e: unknown, i) => [Array.isArray(e) ? String(e[0]) : String(e), i]))
    return ids.size ? { size: vocab.length, id: (t) => ids.get(t) } : fail('the vocabulary is empty', 'tokenizer.json, model.vocab')
  }
  if (!isObject(vocab)) return fail('there is no vocabulary in it', 'tokenizer.json, model.vocab')
  let size = 0
  for (const [token, id] of Object.entries(vocab)) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > 0x7fffffff)
      return fail(`token "${token}" has the id ${JSON.stringify(id)}`, 'tokenizer.json, model.vocab')
    size = Math.max(size, id + 1)
  }
  if (!size) return fail('the vocabulary is empty', 'tokenizer.json, model.vocab')
  if (model['type'] === 'BPE' && !Array.isArray(model['merges'])) return fail('there are no merges in it', 'tokenizer.json, model.merges')
  return { size, id: (t) => (Object.hasOwn(vocab, t) ? (vocab[t] as number) : undefined) }
}

/** What Transformers puts in place of the stored post-processor where the config says `add_bos_token` or `add_eos_token`. */
function postProcessor(json: Json, config: Json, bos: AddedToken | null, eos: AddedToken | null): unknown {
  if (typeof config['add_bos_token'] !== 'boolean' && typeof config['add_eos_token'] !== 'boolean') return json['post_processor'] ?? null
  const first = config['add_bos_token'] === true ? bos : null
  const last = config['add_eos_token'] === true ? eos : null
  const special = (t: AddedToken | null): object[] => (t ? [{ SpecialToken: { id: t.content, type_id: 0 } }] : [])
  const single = [...special(first), { Sequence: { id: 'A', type_id: 0 } }, ...special(last)]
  const tokens = [first, last].flatMap((t) => (t ? [[t.content, { id: t.content, ids: [t.id], tokens: [t.content] }]] : []))
  return { type: 'TemplateProcessing', single, pair: single, special_tokens: Object.fromEntries(tokens) as object }
}

const CACHED_WORDS = 100_000

/**
 * Gives a model a cache of words without an order. The library's moves each word met to the end of a Map, which took a third of all encoding time.
 * A model that has no such cache is left as it is.
 */
function plainCache(model: object | null): void {
  const cache: unknown = model && Reflect.get(model, 'cache')
  if (!isObject(cache) || !['get', 'put', 'clear'].every((f) => typeof cache[f] === 'function')) return
  const words = new Map<string, unknown>()
  Reflect.set(model ?? {}, 'cache', {
    get: (word: string) => words.get(word),
    put: (word: string, value: unknown) => {
      if (words.size >= CACHED_WORDS) words.clear()
      words.set(word, value)
    },
    clear: () => {
      words.clear()
    },
  })
}

/**
 * A tokenizer over parsed tokenizer.json and tokenizer_config.json. Ids equal those of the `tokenizers` library; special tokens written in the
 * text are parsed. Where the config names no BOS or EOS they are taken from the post-processor and from usual names. Throws ModelError.
 */
export function loadTokenizer(files: TokenizerFiles): Tokenizer {
  const json = files.tokenizer
  if (json === null || json === undefined) return fail('the model has no tokenizer', 'tokenizer.json')
  if (!isObject(json)) return fail('it is not a JSON object', 'tokenizer.json')
  const config = isObject(files.config) ? files.config : {}
  const vocab = vocabulary(json)
  const added = addedTokens(json, config)
  const byText = new Map(added.map((t) => [t.content, t]))
  const find = (text: string | null): AddedToken | null => {
    if (text === null) return null
    const id = vocab.id(text)
    return byText.get(text) ?? (id === undefined ? null : { id, content: text, special: true })
  }
  const processor = isObject(json['post_processor']) ? json['post_processor'] : {}
  const opening = Array.isArray(processor['single']) ? (processor['single'] as unknown[])[0] : null
  const openingToken = isObject(opening) && isObject(opening['SpecialToken']) ? opening['SpecialToken']['id'] : null
  const bos = find(named(config, 'bos_token') ?? (typeof openingToken === 'string' ? openingToken : null))
  const eos = find(named(config, 'eos_token')) ?? find(USUAL_EOS.find((t) => byText.get(t)?.special) ?? null)
  const pad = find(named(config, 'pad_token'))

  let hub: HubTokenizer
  try {
    const whole = {
      normalizer: null,
      pre_tokenizer: null,
      decoder: null,
      ...json,
      added_tokens: added,
      post_processor: postProcessor(json, config, bos, eos),
    }
    hub = new HubTokenizer(whole, config)
    hub.encode('a b')
    plainCache(hub.model)
  } catch (e) {
    return fail(`it cannot be used (${e instanceof Error ? e.message : String(e)})`, 'tokenizer.json')
  }
  const special = new Set(added.filter((t) => t.special).map((t) => t.id))
  for (const t of [bos, eos, pad]) if (t) special.add(t.id)
  const addedIds = new Map(added.map((t) => [t.id, t.content]))
  const isByteLevel = JSON.stringify(json['decoder'] ?? json['pre_tokenizer'] ?? null).includes('"ByteLevel"')
  const cleanUp = config['clean_up_tokenization_spaces'] === true

  return {
    vocabSize: added.reduce((n, t) => Math.max(n, t.id + 1), vocab.size),
    bosId: bos?.id ?? null,
    eosId: eos?.id ?? null,
    padId: pad?.id ?? null,
    chatTemplate: chatTemplate(config),
    encode: (text, addSpecial) =>
      hub.encode(text.toWellFormed(), { add_special_tokens: addSpecial }).ids.filter((id: number | undefined) => id !== undefined),
    decode(ids, skipSpecial) {
      const kept = ids.filter((id) => hub.id_to_token(id) !== undefined && !(skipSpecial && special.has(id)))
      return kept.length ? hub.decode(kept, { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: cleanUp }) : ''
    },
    token: (id) => addedIds.get(id) ?? byteToken(hub.id_to_token(id) ?? `<${id}?>`, isByteLevel),
    isSpecial: (id) => special.has(id),
  }
}
