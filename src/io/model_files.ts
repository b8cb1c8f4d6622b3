/** @file Opens the files of a model, whatever they came in: a Hugging Face folder or one GGUF file. Knows file names, not architectures: `models/` judges the config. */
import { FileError } from '../errors.ts'
import { baseName, besideFile, withExtension } from './file_set.ts'
import { readGguf, type GgufValue } from './gguf.ts'
import { tokenizerFromGguf } from './gguf_tokenizer.ts'
import { decodeText, field, isObject, readJsonObject, type JsonObject } from './json.ts'
import { readSafetensorsSet } from './safetensors.ts'
import type { ByteSource, FileSet, StoredTensor } from './source.ts'
import { readAll } from './sources.ts'
import { storageSummary } from './storage.ts'
import type { TokenizerFiles } from './tokenizer_files.ts'

interface Common {
  /** Folder or file name. */
  readonly name: string
  /** Names as in the file: Hugging Face's, or llama.cpp's for GGUF. */
  readonly tensors: ReadonlyMap<string, StoredTensor>
  /** Null: the model comes without one; only rows that are tokenised already can be used. */
  readonly tokenizer: TokenizerFiles | null
  /** Parsed generation_config.json. */
  readonly generationConfig: JsonObject | null
  /** Bytes of the files that hold weights. */
  readonly fileBytes: number
  /** "Q4_1 + Q8_0 + F32", most bytes first. */
  readonly storage: string
  /** Worth showing: what is missing and what follows from it. */
  readonly notes: readonly string[]
}
export type ModelFiles = Common &
  (
    | { readonly kind: 'safetensors'; readonly config: JsonObject; readonly gguf: null }
    | { readonly kind: 'gguf'; readonly config: null; readonly gguf: ReadonlyMap<string, GgufValue> }
  )

/** llama.cpp's names: of Llama 3.1, and of Phi-3 for sequences within its original context and beyond. */
const ROTARY_DIVISORS = ['rope_freqs.weight', 'rope_factors_short.weight', 'rope_factors_long.weight']
/** Twice as many as pairs of dimensions in the largest heads of any model. */
const MOST_DIVISORS = 1024
const TEXT_LIMIT = 2 ** 20
const NO_TOKENIZER = 'The model came without a tokenizer: only rows that are tokenised already can be used.'

async function optionalObject(files: FileSet, name: string): Promise<JsonObject | null> {
  const source = files.get(name)
  return source ? readJsonObject(source) : null
}

/** The chat template's own file, which goes before the one in tokenizer_config.json, as in Transformers. */
async function chatTemplate(files: FileSet): Promise<string | null> {
  const jinja = files.get('chat_template.jinja')
  if (jinja) return decodeText(await readAll(jinja, TEXT_LIMIT), jinja.name)
  const json = await optionalObject(files, 'chat_template.json')
  const template = json && field(json, 'chat_template')
  return typeof template === 'string' ? template : null
}

/** tokenizer.json with its configuration; null where it is not there. @throws FileError where it is empty or damaged. */
async function readTokenizer(files: FileSet): Promise<TokenizerFiles | null> {
  const source = files.get('tokenizer.json')
  if (!source) return null
  const tokenizer = await readJsonObject(source)
  if (!isObject(field(tokenizer, 'model'))) {
    throw new FileError('It has no "model": it is no tokenizer of the tokenizers library', {
      where: 'tokenizer.json',
      why: 'Text cannot be turned into tokens',
      fix: 'Use the tokenizer.json that came with the model',
    })
  }
  const special = (await optionalObject(files, 'special_tokens_map.json')) ?? {}
  const stored = (await optionalObject(files, 'tokenizer_config.json')) ?? {}
  const template = await chatTemplate(files)
  return { tokenizer, config: { ...special, ...stored, ...(template !== null && { chat_template: template }) } }
}

const weightBytes = (tensors: Iterable<StoredTensor>): number =>
  [...new Set([...tensors].map((t) => t.source))].reduce((n, s) => n + s.size, 0)

/** What the config of a GGUF model depends on but a tensor holds becomes metadata of its name. */
async function withRotaryDivisors(
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: ReadonlyMap<string, StoredTensor>,
): Promise<ReadonlyMap<string, GgufValue>> {
  const all = new Map(metadata)
  for (const name of ROTARY_DIVISORS) {
    const t = tensors.get(name)
    if (!t) continue
    if (t.type !== 'F32' || t.bytes > MOST_DIVISORS * 4)
      throw new FileError(`It has ${t.bytes} bytes of ${t.type}, expected up to ${MOST_DIVISORS} numbers of F32`, {
        where: `${t.source.name}, tensor "${name}"`,
        why: 'It says how positions are encoded',
        fix: 'Convert the model again with a current llama.cpp, or use its safetensors form',
      })
    const bytes = await t.source.read(t.offset, t.bytes)
    all.set(name, [...new Float32Array(bytes.buffer, bytes.byteOffset, t.bytes / 4)])
  }
  return all
}

async function openGguf(path: string, source: ByteSource, files: FileSet): Promise<ModelFiles> {
  const { metadata, tensors } = await readGguf(source)
  const where = source.name
  if (metadata.get('general.type') === 'adapter') {
    throw new FileError('This GGUF file is an adapter, not a model', {
      where,
      fix: 'Choose the model it belongs to; a PEFT adapter can be loaded on top of it',
    })
  }
  const parts = metadata.get('split.count')
  if (typeof parts === 'number' && parts > 1) {
    throw new FileError(`This is one of ${parts} parts of a model`, {
      where,
      why: 'The other parts hold the rest of the weights',
      fix: 'Join them with llama-gguf-split --merge',
    })
  }
  if (tensors.size === 0)
    throw new FileError('It holds no tensors', { where, why: 'It is only a vocabulary', fix: 'Choose the file with the weights' })
  const folder = besideFile(files, 'tokenizer.json')
  const tokenizer = (folder && (await readTokenizer(folder))) ?? tokenizerFromGguf(metadata, where)
  return {
    kind: 'gguf',
    name: baseName(path),
    config: null,
    gguf: await withRotaryDivisors(metadata, tensors),
    tensors,
    tokenizer,
    generationConfig: null,
    fileBytes: source.size,
    storage: storageSummary(tensors.values()),
    notes: tokenizer ? [] : [NO_TOKENIZER],
  }
}

/** Says what is wrong with files among which there is no config.json. */
function noConfig(files: FileSet): FileError {
  const names = [...files.keys()].map(baseName)
  if (names.length === 0)
    return new FileError('There are no files', { fix: 'Choose a folder with config.json and model.safetensors, or a .gguf file' })
  const where = names.slice(0, 5).join(', ') + (names.length > 5 ? ' …' : '')
  if (names.includes('adapter_config.json')) {
    return new FileError('These files are an adapter, not a model', { where, fix: 'Choose its base model first, then load the adapter' })
  }
  return new FileError('config.json is missing', {
    where,
    why: 'It says how many layers, heads and dimensions the model has',
    fix: 'Add the config.json that came with the weights, or choose a .gguf file',
  })
}

async function openFolder(folder: FileSet, name: string): Promise<ModelFiles> {
  const config = await readJsonObject(folder.get('config.json') as ByteSource)
  const { tensors } = await readSafetensorsSet(folder)
  if (tensors.size === 0) throw new FileError('It holds no tensors', { where: `${name}, weights`, fix: 'Download the model again' })
  const tokenizer = await readTokenizer(folder)
  const missing = folder.has('tokenizer.model')
    ? `tokenizer.json is missing (tokenizer.model alone is not read). ${NO_TOKENIZER}`
    : NO_TOKENIZER
  return {
    kind: 'safetensors',
    name,
    config,
    gguf: null,
    tensors,
    tokenizer,
    generationConfig: await optionalObject(folder, 'generation_config.json'),
    fileBytes: weightBytes(tensors.values()),
    storage: storageSummary(tensors.values()),
    notes: tokenizer ? [] : [missing],
  }
}

/**
 * Opens a model: reads everything but the weights. Files are found by name in whatever folder they came. A GGUF file is taken where there is no config.json; a
 * tokenizer.json beside it goes before the one inside.
 * @param name shown instead of the folder's or file's own.
 * @throws FileError saying which file is missing or wrong, and why it is needed.
 */
export async function openModel(files: FileSet, name?: string): Promise<ModelFiles> {
  const folder = besideFile(files, 'config.json')
  const hasWeights = folder !== null && withExtension(folder, '.safetensors').length > 0
  const ggufs = withExtension(files, '.gguf')
  if (!hasWeights && ggufs.length > 1) {
    throw new FileError(`There are ${ggufs.length} .gguf files (${ggufs.slice(0, 3).map(baseName).join(', ')} …)`, {
      why: 'Each is a model of its own, or a part of one',
      fix: 'Choose one of them',
    })
  }
  const gguf = hasWeights ? undefined : files.get(ggufs[0] ?? '')
  if (gguf) return openGguf(name ?? ggufs[0], gguf, files)
  if (!folder) throw noConfig(files)
  const path = [...files.keys()].find((p) => files.get(p) === folder.get('config.json')) ?? ''
  return openFolder(folder, name ?? (baseName(path.slice(0, -'/config.json'.length)) || 'model'))
}
