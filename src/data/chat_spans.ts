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

/** Stands for a message's content to see where a template puts it. No template has a reason to change it. */
const MARK = '\u{e000}content\u{e001}'

/**
 * Spans of the assistant's turns among `messages` from index `from` on. A turn starts where the conversation before it, rendered with the
 * generation prompt, ends (or departs from the whole), and ends where the conversation up to it ends: so what closes a turn is inside, and so
 * is what the template itself puts before the content (Qwen3's empty thought). Templates that render an earlier turn differently once others
 * follow, or rewrite what was said, are met by rendering with a mark in the content's place. Throws DataError where even that does not tell.
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
    const found = text.indexOf(content, seen)
    if (message.role !== 'assistant' || i < from || !content) {
      if (found >= 0) seen = found + content.length
      return
    }
    const { start, contentEnd } = placeTurn(render, messages, i, text, content, found)
    seen = contentEnd
    spans.push({ start, end: i === messages.length - 1 ? text.length : turnEnd(render, messages, i, text, contentEnd) })
  })
  return { text, spans }
}

/** Where turn i starts and its content ends. `found`: where its content stands first after the message before, or -1. */
function placeTurn(
  render: Render,
  messages: readonly ChatMessage[],
  i: number,
  text: string,
  content: string,
  found: number,
): { readonly start: number; readonly contentEnd: number } {
  const start = turnStart(render, messages, i, text)
  const at = text.indexOf(content, start ?? found)
  if (start !== null && at >= 0 && text.slice(start, at).trim() === '') return { start, contentEnd: at + content.length }
  const marked = markedContent(render, messages, i, text)
  const begin = start ?? marked?.from ?? found
  if (begin >= 0 && marked && marked.to >= begin) return { start: begin, contentEnd: marked.to }
  if (begin >= 0 && at >= begin) return { start: begin, contentEnd: at + content.length }
  throw new DataError(`the chat template changes the answer of message ${i + 1}, so it cannot be told which part is the answer`, {
    fix: 'Choose another template',
  })
}

function turnStart(render: Render, messages: readonly ChatMessage[], i: number, text: string): number | null {
  const before = messages.slice(0, i)
  try {
    const opened = render(before, true)
    const shared = commonPrefix(opened, text)
    if (shared === opened.length) return shared
    const closed = render(before, false)
    return closed !== '' && text.startsWith(closed) ? shared : null
  } catch (e) {
    if (e instanceof DataError) return null
    throw e
  }
}

/** Rendered with the mark in place of message i's content: what stands before and after it. Null where the template refuses or drops it. */
function aroundMark(
  render: Render,
  messages: readonly ChatMessage[],
  i: number,
): { readonly before: string; readonly after: string } | null {
  try {
    const marked = render(messages.with(i, { ...messages[i], content: MARK }), false)
    const [first, last] = [marked.indexOf(MARK), marked.lastIndexOf(MARK)]
    return first < 0 ? null : { before: marked.slice(0, first), after: marked.slice(last + MARK.length) }
  } catch (e) {
    if (e instanceof DataError) return null
    throw e
  }
}

/** What closes a turn, given what closes it at the end of a conversation and what follows it within one: what both have in common, down to whole markers. */
const closingAmong = (last: string, within: string): string => last.slice(0, commonPrefix(last, within)).replace(/[<[][^<>[\]]*$/, '')

/** What a template puts after what the assistant says next; '' where it refuses such a conversation. */
export function closingOf(render: Render, before: readonly ChatMessage[]): string {
  const answered = [...before, { role: 'assistant', content: MARK }]
  const last = aroundMark(render, answered, before.length)?.after ?? ''
  const within = aroundMark(render, [...answered, { role: 'user', content: 'And then?' }], before.length)?.after
  return (within !== undefined && closingAmong(last, within)) || last
}

/** Where the content of message i lies in `text`, whatever the template made of it: between what stands before and after the mark in its place.
 * `from` is null where what stands before depends on the content. */
function markedContent(
  render: Render,
  messages: readonly ChatMessage[],
  i: number,
  text: string,
): { readonly from: number | null; readonly to: number } | null {
  const around = aroundMark(render, messages, i)
  if (!around || !text.endsWith(around.after)) return null
  return { from: text.startsWith(around.before) ? around.before.length : null, to: text.length - around.after.length }
}

/** End of turn i, whose content ends at `contentEnd`. */
function turnEnd(render: Render, messages: readonly ChatMessage[], i: number, text: string, contentEnd: number): number {
  const upTo = messages.slice(0, i + 1)
  const alone = render(upTo, false)
  if (text.startsWith(alone) && alone.length >= contentEnd) return alone.length
  // Here what closes the turn differs from what closes the conversation.
  const from = markedContent(render, messages, i, text)?.to ?? contentEnd
  const closing = aroundMark(render, upTo, i)?.after ?? ''
  return from + closingAmong(closing, text.slice(from, from + closing.length)).length
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
