/** @file Rows of the text formats to examples: roles, parts and the texts made of several columns. */
import { DataError } from '../errors.ts'
import { isObject } from '../io/json.ts'
import type { Example } from './masks.ts'
import type { Field } from './report.ts'
import type { ChatMessage } from './types.ts'

type NameOf = (field: Field) => string

/** Roles of ShareGPT files and their kin, as chat templates know them. */
const ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  user: 'user',
  prompter: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  bot: 'assistant',
  model: 'assistant',
  chatgpt: 'assistant',
  chatbot: 'assistant',
  ai: 'assistant',
  system: 'system',
  developer: 'system',
  tool: 'tool',
  function: 'tool',
  observation: 'tool',
}

const absent = (v: unknown): boolean => v === undefined || v === null
const quote = (s: string): string => `"${s}"`

/** A list of turns keyed by `role` (OpenAI) or `from` (ShareGPT)? A cell of text holding such a list counts. */
export function isTurnList(v: unknown, key: 'role' | 'from'): boolean {
  const turns = listOf(v)
  return turns !== null && turns.length > 0 && turns.every((t) => isObject(t) && typeof t[key] === 'string')
}

function listOf(v: unknown): readonly unknown[] | null {
  if (Array.isArray(v)) return v as unknown[]
  if (typeof v !== 'string' || !v.trimStart().startsWith('[')) return null
  try {
    const parsed: unknown = JSON.parse(v)
    return Array.isArray(parsed) ? (parsed as unknown[]) : null
  } catch {
    return null
  }
}

/** Text of a turn: a string, or OpenAI's list of parts of which each must be text. */
function contentOf(v: unknown, where: string): string {
  if (typeof v === 'string') return v
  if (Array.isArray(v))
    return (v as unknown[])
      .map((part) => {
        if (typeof part === 'string') return part
        if (isObject(part) && typeof part['text'] === 'string') return part['text']
        throw new DataError(
          `${where} holds a part that is not text${isObject(part) && typeof part['type'] === 'string' ? ` (${part['type']})` : ''}`,
        )
      })
      .join('')
  throw new DataError(`${where} has no text`)
}

function turnsOf(v: unknown, name: string): ChatMessage[] {
  if (absent(v)) throw new DataError(`${quote(name)} is missing`)
  const turns = listOf(v)
  if (!turns) throw new DataError(`${quote(name)} is not a list of messages`)
  if (!turns.length) throw new DataError(`${quote(name)} is an empty list`)
  return turns.map((turn, i) => {
    const where = `message ${i + 1} of ${quote(name)}`
    if (!isObject(turn)) throw new DataError(`${where} is not an object with "role" and "content"`)
    const said = turn['role'] ?? turn['from']
    if (typeof said !== 'string') throw new DataError(`${where} has no "role"`)
    const role = ROLES[said.toLowerCase()]
    if (!role)
      throw new DataError(`${where} has the role ${quote(said)}`, { fix: 'Known roles are system, user (human), assistant (gpt) and tool' })
    if (!absent(turn['tool_calls'])) throw new DataError(`${where} calls tools, which cannot be trained`)
    return { role, content: contentOf(turn['content'] ?? turn['value'], where) }
  })
}

function text(v: unknown, name: string): string {
  if (typeof v === 'string') return v
  if (typeof v === 'number' || typeof v === 'boolean' || typeof v === 'bigint') return String(v)
  throw new DataError(absent(v) ? `${quote(name)} is missing` : `${quote(name)} is not text`)
}
const optionalText = (v: unknown, name: string): string => (absent(v) ? '' : text(v, name))
const systemTurn = (system: string): ChatMessage[] => (system.trim() ? [{ role: 'system', content: system }] : [])

/** A conversation; a `system` column goes before it unless it has its own. Throws DataError where nobody answers in it. */
export function chatExample(v: unknown, system: unknown, name: string): Example {
  const turns = turnsOf(v, name)
  const messages = turns[0]?.role === 'system' ? turns : [...systemTurn(optionalText(system, 'system')), ...turns]
  if (!messages.some((m) => m.role === 'assistant'))
    throw new DataError(`${quote(name)} has no assistant message: there is nothing to learn`)
  return { kind: 'chat', messages, trainFrom: 0 }
}

/** Instruction, newline, and input with a newline if there is one; then the answer. With a chat template: a user's and an assistant's message. */
export function instructionExample(row: { instruction: unknown; input: unknown; output: unknown; system: unknown }, name: NameOf): Example {
  const instruction = text(row.instruction, name('instruction'))
  const input = optionalText(row.input, name('input'))
  const completion = text(row.output, name('output'))
  const system = optionalText(row.system, name('system'))
  const before = [system, instruction, input].filter((s, i) => i === 1 || s.trim() !== '')
  const content = input.trim() ? `${instruction}\n${input}` : instruction
  return {
    kind: 'completion',
    prompt: before.map((s) => `${s}\n`).join(''),
    completion,
    messages: [...systemTurn(system), { role: 'user', content }, { role: 'assistant', content: completion }],
  }
}

/** Prompt and completion as text, joined as they are. */
export function pairExample(rawPrompt: unknown, rawCompletion: unknown, rawSystem: unknown, name: NameOf): Example {
  const prompt = text(rawPrompt, name('prompt'))
  const completion = isTurnList(rawCompletion, 'role')
    ? (turnsOf(rawCompletion, name('completion')).at(-1)?.content ?? '')
    : text(rawCompletion, name('completion'))
  const system = optionalText(rawSystem, name('system'))
  return {
    kind: 'completion',
    prompt: system.trim() ? `${system}\n${prompt}` : prompt,
    completion,
    messages: [...systemTurn(system), { role: 'user', content: prompt }, { role: 'assistant', content: completion }],
  }
}

/** A prompt that is a list of messages; the completion is a list too, or the assistant's text. Only the completion is trained. */
export function promptExample(rawPrompt: unknown, rawCompletion: unknown, name: NameOf): Example {
  const before = turnsOf(rawPrompt, name('prompt'))
  const after =
    typeof rawCompletion === 'string' && !isTurnList(rawCompletion, 'role')
      ? [{ role: 'assistant', content: rawCompletion }]
      : turnsOf(rawCompletion, name('completion'))
  if (!after.some((m) => m.role === 'assistant'))
    throw new DataError(`${quote(name('completion'))} has no assistant message: there is nothing to learn`)
  return { kind: 'chat', messages: [...before, ...after], trainFrom: before.length }
}
