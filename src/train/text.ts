/** @file Between text and generated tokens: a prompt to ids, and new ids to text as they come, never half a character, ending where it is told to. */
import { closingOf } from '../data/chat_spans.ts'
import { renderChat } from '../data/template.ts'
import type { ChatMessage, Tokenizer } from '../data/types.ts'
import { ModelError } from '../errors.ts'

/** A prompt, and what ends the answer to it beside the model's own end tokens. */
export interface Prompt {
  readonly ids: number[]
  readonly stopIds: readonly number[]
  readonly stop: readonly string[]
}

/** `template`: the prompt is a user's turn in this chat template (Jinja), with what opens the answer; the answer ends where the template closes it. Null: plain
 * text. Throws DataError where the template refuses it. */
export function readPrompt(tokenizer: Tokenizer, prompt: string, template: string | null): Prompt {
  if (template === null) {
    const ids = tokenizer.encode(prompt, true)
    const start = tokenizer.bosId ?? tokenizer.eosId
    return { ids: ids.length > 0 || start === null ? ids : [start], stopIds: [], stop: [] }
  }
  const text = (id: number | null): string => (id === null ? '' : tokenizer.token(id))
  const context = { bos_token: text(tokenizer.bosId), eos_token: text(tokenizer.eosId), tools: null }
  const render = (messages: readonly ChatMessage[], addGenerationPrompt: boolean): string =>
    renderChat(template, messages, { ...context, addGenerationPrompt })
  const messages = [{ role: 'user', content: prompt }]
  const ids = tokenizer.encode(render(messages, true), false)
  const closing = closingOf(render, messages)
  const first = closing === '' ? undefined : tokenizer.encode(closing, false)[0]
  if (first !== undefined && tokenizer.isSpecial(first)) return { ids, stopIds: [first], stop: [] }
  return { ids, stopIds: [], stop: closing.trim() === '' ? [] : [closing.trim()] }
}

/** The model's own chat template. Throws ModelError where it has none. */
export function ownTemplate(tokenizer: Tokenizer): string {
  if (tokenizer.chatTemplate === null)
    throw new ModelError('the model has no chat template', {
      where: 'tokenizer_config.json',
      why: 'A conversation can be written as text in many ways, and a base model knows none of them',
      fix: 'Ask it with plain text',
    })
  return tokenizer.chatTemplate
}

/** Tokens before the new ones that are decoded with them: whether a space is written depends on what goes before. */
const CONTEXT = 6
const REPLACEMENT = '\ufffd'

/**
 * Text of ids as they are made. What is handed out stays: incomplete characters, and text that may be the beginning of a stop text, are held back.
 * Only the ids since the last whole character are decoded again, so a token costs the same however long the text is.
 */
export class TextStream {
  #text = ''
  #given = 0
  #window: number[]
  /** How many of the window's ids are in `#text` already. */
  #done: number
  readonly #stop: readonly string[]
  #ended = false

  /** @param prompt ids that went before  @param stop texts at which it ends; they are left out of the text */
  constructor(
    readonly tokenizer: Pick<Tokenizer, 'decode'>,
    prompt: readonly number[],
    stop: readonly string[] = [],
  ) {
    this.#window = prompt.slice(-CONTEXT)
    this.#done = this.#window.length
    this.#stop = stop.filter((s) => s !== '')
  }

  /** Takes the next id. Returns the text that is certain now, maybe ''. */
  push(id: number): string {
    if (this.#ended) return ''
    this.#window.push(id)
    const before = this.tokenizer.decode(this.#window.slice(0, this.#done), true)
    const all = this.tokenizer.decode(this.#window, true)
    if (all.endsWith(REPLACEMENT)) return ''
    this.#append(all.slice(before.length))
    this.#window = this.#window.slice(-CONTEXT)
    this.#done = this.#window.length
    return this.#give(false)
  }

  /** The rest: what was held back. */
  finish(): string {
    if (this.#ended) return ''
    if (this.#done < this.#window.length) {
      const before = this.tokenizer.decode(this.#window.slice(0, this.#done), true)
      this.#append(this.tokenizer.decode(this.#window, true).slice(before.length))
    }
    return this.#give(true)
  }

  /** A stop text has come. */
  get ended(): boolean {
    return this.#ended
  }
  /** Everything handed out. */
  get text(): string {
    return this.#text.slice(0, this.#given)
  }

  #append(piece: string): void {
    const from = this.#given
    this.#text += piece
    const hits = this.#stop.map((s) => this.#text.indexOf(s, from)).filter((i) => i >= 0)
    if (hits.length === 0) return
    this.#text = this.#text.slice(0, Math.min(...hits))
    this.#ended = true
  }

  #give(all: boolean): string {
    const keep = all || this.#ended ? 0 : Math.max(0, ...this.#stop.map((s) => heldBack(this.#text, s)))
    const to = Math.max(this.#given, this.#text.length - keep)
    const out = this.#text.slice(this.#given, to)
    this.#given = to
    return out
  }
}

/** Characters at the end of `text` that begin `stop`. */
function heldBack(text: string, stop: string): number {
  for (let n = Math.min(stop.length - 1, text.length); n > 0; n--) if (text.endsWith(stop.slice(0, n))) return n
  return 0
}
