/** @file JSON files read strictly: encoding, syntax (with line and column), duplicate keys. Values come back as `unknown`; callers check them. */
import { FileError } from '../errors.ts'
import type { ByteSource } from './source.ts'
import { readAll } from './sources.ts'

const MIB = 2 ** 20

/** A parsed JSON object. Own properties only: ask with `Object.hasOwn`, or through `field`. */
export type JsonObject = Readonly<Record<string, unknown>>

export const isObject = (v: unknown): v is JsonObject => typeof v === 'object' && v !== null && !Array.isArray(v)

/** Own property of an object, undefined where absent: never something inherited such as "constructor". */
export const field = (o: JsonObject, key: string): unknown => (Object.hasOwn(o, key) ? o[key] : undefined)

/** Text of bytes: UTF-8 with or without a byte-order mark, or UTF-16 with one. @throws FileError where it is neither. */
export function decodeText(bytes: Uint8Array, where: string): string {
  const utf16 = bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : null
  try {
    return new TextDecoder(utf16 ?? 'utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new FileError(`This is not ${utf16 ? 'UTF-16' : 'UTF-8'} text`, { where, fix: 'Save it as UTF-8, or choose the right file' })
  }
}

/** `line 3, column 7` of a character offset. */
function position(text: string, offset: number): string {
  const before = text.slice(0, offset).split('\n')
  return `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
}

/** First key that an object in valid JSON text has twice, at any depth; null if none. `JSON.parse` would keep the last silently. */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = []
  let expectKey = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (c === '"') {
      const start = i
      for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++
      const keys = open.at(-1)
      if (expectKey && keys) {
        const key = JSON.parse(text.slice(start, i + 1)) as string
        if (keys.has(key)) return key
        keys.add(key)
        expectKey = false
      }
    } else if (c === '{') {
      open.push(new Set())
      expectKey = true
    } else if (c === '[') {
      open.push(null)
      expectKey = false
    } else if (c === '}' || c === ']') {
      open.pop()
      expectKey = false
    } else if (c === ',') expectKey = open.at(-1) instanceof Set
  }
  return null
}

/** Parses JSON text. @throws FileError with the position of the mistake. `unique`: duplicate keys are an error too. */
export function parseJson(text: string, where: string, unique = false): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (e) {
    const message = e instanceof Error ? e.message : String(e)
    const offset = /position (\d+)/.exec(message)?.[1]
    const at = text.trim() === '' ? 'it is empty' : offset ? position(text, Number(offset)) : message.replaceAll(/\s+/g, ' ')
    throw new FileError(`This is not valid JSON (${at})`, {
      where,
      why: 'The file is damaged, cut off, or of another kind',
      fix: 'Download or export it again',
    })
  }
  const twice = unique ? duplicateKey(text) : null
  if (twice !== null)
    throw new FileError(`The key "${twice}" is there twice`, { where, why: 'It is not clear which one counts', fix: 'Remove one of them' })
  return value
}

/** A JSON file. @param limit largest size, bytes. @throws FileError. */
export async function readJson(source: ByteSource, limit = 256 * MIB): Promise<unknown> {
  return parseJson(decodeText(await readAll(source, limit), source.name), source.name)
}

/** A JSON file whose top level must be an object. @throws FileError. */
export async function readJsonObject(source: ByteSource, limit?: number): Promise<JsonObject> {
  const value = await readJson(source, limit)
  if (isObject(value)) return value
  throw new FileError('This should be a JSON object ({ … })', { where: source.name, fix: 'Choose the right file' })
}
