/**
 * @file How text is cut before byte-pair merging, by GGUF's `tokenizer.ggml.pre`: the tokenizer.json parts of the models those names stand for
 * (names: llama.cpp src/llama-vocab.cpp; patterns: the models' published tokenizer.json, and Transformers' integrations/gguf/gguf_tokenizer_mapping.py).
 */

export interface PreTokenizer {
  readonly normalizer: object | null
  readonly pre_tokenizer: object
  /** A word that is in the vocabulary is taken whole, whatever the merges say. */
  readonly ignore_merges: boolean
  /** Whether a BOS token comes first where the file does not say. */
  readonly addBos: boolean
}

const byteLevel = (use_regex: boolean): object => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex })
const sequence = (...pretokenizers: object[]): object => ({ type: 'Sequence', pretokenizers })
const split = (Regex: string): object => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })

/** The GPT-4 pattern with numbers of up to `digits` digits a word. */
const gpt4 = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`

/** The GPT-4o pattern: words begin at a capital, and contractions belong to them. */
const GPT4O = ((): string => {
  const [upper, lower] = ['[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]', '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]']
  const word = (letters: string): string => `[^\\r\\n\\p{L}\\p{N}]?${letters}(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
  const rest = '\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
  return [word(`${upper}*${lower}+`), word(`${upper}+${lower}*`), rest].join('|')
})()

const GPT2: PreTokenizer = { normalizer: null, pre_tokenizer: byteLevel(true), ignore_merges: false, addBos: false }
const DIGITS: PreTokenizer = { ...GPT2, pre_tokenizer: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)) }
const LLAMA3: PreTokenizer = {
  normalizer: null,
  pre_tokenizer: sequence(split(gpt4('{1,3}')), byteLevel(false)),
  ignore_merges: true,
  addBos: true,
}
const QWEN2: PreTokenizer = {
  normalizer: { type: 'NFC' },
  pre_tokenizer: sequence(split(gpt4('')), byteLevel(false)),
  ignore_merges: false,
  addBos: false,
}

/** Phi-4's. */
const DBRX: PreTokenizer = { ...LLAMA3, ignore_merges: false, addBos: false }
/** Phi-4-mini's. */
const GPT_4O: PreTokenizer = { ...DBRX, pre_tokenizer: sequence(split(GPT4O), byteLevel(false)) }

const BY_NAME: Readonly<Record<string, PreTokenizer>> = {
  default: GPT2,
  'gpt-2': GPT2,
  'phi-2': GPT2,
  jais: GPT2,
  mpt: GPT2,
  olmo: GPT2,
  smollm: DIGITS,
  starcoder: DIGITS,
  refact: DIGITS,
  codeshell: DIGITS,
  'command-r': DIGITS,
  'llama-bpe': LLAMA3,
  'llama-v3': LLAMA3,
  llama3: LLAMA3,
  falcon3: LLAMA3,
  qwen2: QWEN2,
  'deepseek-r1-qwen': QWEN2,
  dbrx: DBRX,
  'gpt-4o': GPT_4O,
}

export const PRE_NAMES: readonly string[] = Object.keys(BY_NAME)
export const preTokenizer = (name: string): PreTokenizer | null => (Object.hasOwn(BY_NAME, name) ? BY_NAME[name] : null)
