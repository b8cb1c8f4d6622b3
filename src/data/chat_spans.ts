/** @file Where in a rendered conversation the assistant speaks: text spans from rendering it turn by turn, and their tokens. */
import { DataError } from '../errors.ts'
import type { ChatMessage, Tokenizer } from './types.ts'

/** Characters [start, end) of the rendered text: what the assistant says, with all that the template puts after it up to the next turn. */
export interface Span {
  readonly start: number
  readonly end: number
}

export const commonPrefix = <T extends string | readonly number[]>(a: T, b: T): number => {
  const n = Math.min(a.length, b.length)
  let i = 0
  while (i < n && a[i] === b[i]) i++
  return i
}

/** Renders a conversation; `open`: with what opens the assistant's next turn. Throws DataError where the template refuses. */
export type Render = (messages: readonly ChatMessage[], open: boolean) => string

/**
 * Spans of the assistant's turns among `messages` from index `from` on. A turn starts where the conversation before it, rendered with the
 * generation prompt, ends (or departs from the whole), and ends where the conversation up to it ends: so what closes a turn is inside.
 * Templates that render an earlier turn differently once others follow are met by looking for the turn's content. Throws DataError where the
 * template changes an answer beyond recognition.
 */
export function assistantSpans(
  render: Render,
  messages: readonly ChatMessage[],
  from: number,
): { readonly text: string; readonly spans: readonly Span[] } {
  const text = render(messages, false)
  const spans: Span[] = []
  /** End of the content of the message before, as far as it was found. */
  let seen = 0
  messages.forEach((message, i) => {
    const content = message.content.trim()
    const earlier = seen
    const found = text.indexOf(content, earlier)
    if (found >= 0) seen = found + content.length
    if (message.role !== 'assistant' || i < from || !content) return
    const start = turnStart(render, messages, i, text) ?? found
    const at = text.indexOf(content, Math.max(start, 0))
    if (start < 0 || at < 0)
      throw new DataError(`the chat template changes the answer of message ${i + 1}, so it cannot be told which part is the answer`, {
        fix: 'Choose another template',
      })
    seen = at + content.length
    spans.push({ start, end: i === messages.length - 1 ? text.length : turnEnd(render, messages, i, text, seen, content) })
  })
  return { text, spans }
}

function turnStart(render: Render, messages: readonly ChatMessage[], i: number, text: string): number | null {
  const before = messages.slice(0, i)
  try {
    const opened = render(before, true)
    const shared = commonPrefix(opened, text)
    if (shared === opened.length) return shared
    return text.startsWith(render(before, false)) ? shared : null
  } catch (e) {
    if (e instanceof DataError) return null
    throw e
  }
}

/** End of turn i, whose content ends at `contentEnd`. */
function turnEnd(render: Render, messages: readonly ChatMessage[], i: number, text: string, contentEnd: number, content: string): number {
  const alone = render(messages.slice(0, i + 1), false)
  if (text.startsWith(alone) && alone.length >= contentEnd) return alone.length
  const closing = alone.slice(alone.lastIndexOf(content) + content.length)
  return contentEnd + commonPrefix(closing, text.slice(contentEnd, contentEnd + closing.length))
}

/** Longest special token looked for at a seam. */
const LONGEST_SPECIAL = 64
/** Rows whose cut-up encoding is compared with the whole one before it is trusted. */
const TRIALS = 32

/** Ids of a rendered conversation and the first token of each span; a token across the start of a span belongs to it, one across its end does not. */
export class SpanEncoder {
  #trials = 0
  #cutAtSpecials = true
  constructor(readonly tokenizer: Tokenizer) {}

  /** `tokens[k]`: [first, end) among `ids` of span k. Nothing is added to what the text says: no BOS beyond the template's. */
  encode(text: string, spans: readonly Span[]): { readonly ids: number[]; readonly tokens: readonly (readonly [number, number])[] } {
    const cuts = [...new Set(spans.flatMap((s) => [s.start, s.end]))].filter((c) => c > 0 && c < text.length).toSorted((a, b) => a - b)
    const pieces = this.#cutAtSpecials ? cuts.filter((c) => this.#specialAt(text, c)) : []
    const at = new Map([[0, 0]])
    const ids: number[] = []
    let from = 0
    for (const end of [...pieces, text.length]) {
      const piece = this.tokenizer.encode(text.slice(from, end), false)
      for (const cut of cuts) if (cut > from && cut < end) at.set(cut, ids.length + this.#tokensBefore(text.slice(from, cut), piece))
      for (const id of piece) ids.push(id)
      at.set(end, ids.length)
      from = end
    }
    if (this.#trials < TRIALS) {
      this.#trials++
      const whole = this.tokenizer.encode(text, false)
      if (whole.length !== ids.length || commonPrefix(whole, ids) !== ids.length) {
        this.#cutAtSpecials = false
        return this.encode(text, spans)
      }
    }
    return { ids, tokens: spans.map((s) => [at.get(s.start) ?? 0, at.get(s.end) ?? ids.length] as const) }
  }

  /** Tokens of a text among `ids`, which begin with it: those it has when it stands alone. Only what follows its last special token is encoded again. */
  #tokensBefore(prefix: string, ids: readonly number[]): number {
    const whole = (): number => commonPrefix(this.tokenizer.encode(prefix, false), ids)
    if (!this.#cutAtSpecials) return whole()
    let last = { id: -1, text: '', at: -1 }
    for (const id of new Set(ids.filter((i) => this.tokenizer.isSpecial(i)))) {
      const text = this.tokenizer.token(id)
      const at = text ? prefix.lastIndexOf(text) : -1
      if (at > last.at) last = { id, text, at }
    }
    if (last.at < 0) return whole()
    let index = -1
    for (let n = prefix.split(last.text).length - 1; n > 0; n--) index = ids.indexOf(last.id, index + 1)
    const n = index + commonPrefix(this.tokenizer.encode(prefix.slice(last.at), false), ids.slice(index))
    if (this.#trials >= TRIALS) return n
    const exact = whole()
    if (exact !== n) this.#cutAtSpecials = false
    return exact
  }

  /** A tokenizer splits text at special tokens before all else, so there it may be cut without changing an id. */
  #specialAt(text: string, at: number): boolean {
    const first = this.tokenizer.encode(text.slice(at, at + LONGEST_SPECIAL), false)[0]
    return first !== undefined && this.tokenizer.isSpecial(first) && text.startsWith(this.tokenizer.token(first), at)
  }
}
