/** @file A row to token ids and labels: what the model reads and which of it is trained. The rules are those of TRL's SFTTrainer. */
import { DataError } from '../errors.ts'
import { assistantSpans, commonPrefix, SpanEncoder } from './chat_spans.ts'
import { IGNORE } from './labels.ts'
import { renderChat } from './template.ts'
import type { ChatMessage, Tokenizer } from './types.ts'

/** A row, whatever its format, as what is to be done with it. */
export type Example =
  /** A conversation; assistant turns from message `trainFrom` on are trained. */
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[]; readonly trainFrom: number }
  /** A question and its answer. `prompt` is the text before the answer where there is no chat template; `messages` say the same for one that has. */
  | { readonly kind: 'completion'; readonly prompt: string; readonly completion: string; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'text'; readonly text: string }
  /** Already tokenised: taken as it is. Without labels all of it is trained. */
  | { readonly kind: 'tokens'; readonly ids: readonly number[]; readonly labels: readonly number[] | null }

export interface Encoded {
  readonly ids: readonly number[]
  /** The id where trained, -100 where not; not shifted. Same length as `ids`. */
  readonly labels: readonly number[]
}

export interface MaskOptions {
  /** Jinja source, or null: no chat template. */
  readonly template: string | null
  /** Loss on completions only. null: completions, and everything for plain text. */
  readonly completionOnly: boolean | null
}

/** What was seen while encoding, for the checks shown to the user. */
export interface MaskTally {
  /** Trained turns, and those among them that end in a special token (the end of the turn, EOS). */
  turns: number
  closed: number
  /** Rows that begin with BOS, and with more than one. */
  bos: number
  doubleBos: number
  /** Rows made with the chat template. */
  templated: number
  /** Rows that went through the tokenizer. */
  encoded: number
  /** Id of the last special token met at the end of a turn. */
  closingId: number | null
}

/** Tokens after an answer among which what closes the turn is looked for: `<|im_end|>` and a newline. */
const CLOSING = 3

/** Turns examples into ids and labels for one tokenizer and template. */
export class RowEncoder {
  readonly tally: MaskTally = { turns: 0, closed: 0, bos: 0, doubleBos: 0, templated: 0, encoded: 0, closingId: null }
  readonly #spans: SpanEncoder | null
  readonly #bos: string
  readonly #eos: string
  /** EOS is a token when written in text; otherwise its id is put behind. */
  readonly #eosParsed: boolean
  /** The tokenizer itself ends a text with EOS. */
  readonly #eosAdded: boolean

  constructor(
    readonly tokenizer: Tokenizer | null,
    readonly options: MaskOptions,
  ) {
    const t = tokenizer
    this.#spans = t && new SpanEncoder(t)
    this.#bos = t && t.bosId !== null ? t.token(t.bosId) : ''
    this.#eos = t && t.eosId !== null ? t.token(t.eosId) : ''
    this.#eosParsed = !!this.#eos && t?.encode(this.#eos, false).join() === String(t?.eosId)
    this.#eosAdded = !!t && t.eosId !== null && t.encode('a', true).at(-1) === t.eosId
  }

  /**
   * Ids and labels of an example; null where there is nothing in it to learn. Throws DataError: no tokenizer, no chat template for a
   * conversation, a template that refuses it.
   */
  encode(example: Example, where?: string): Encoded | null {
    if (example.kind === 'tokens') return { ids: example.ids, labels: example.labels ?? example.ids }
    if (!this.tokenizer)
      throw new DataError('text needs a tokenizer, and the model has none', {
        ...at(where),
        fix: 'Use rows of input_ids, or add the tokenizer.json of the model',
      })
    const encoded = this.#encode(example, this.tokenizer, where)
    if (encoded) this.#count(encoded.ids, this.tokenizer)
    return encoded
  }

  #encode(example: Exclude<Example, { kind: 'tokens' }>, tokenizer: Tokenizer, where: string | undefined): Encoded | null {
    switch (example.kind) {
      case 'text': {
        if (!example.text.trim()) return null
        const ids = this.#withEos(example.text, tokenizer)
        this.#turn(ids, tokenizer)
        return { ids, labels: ids }
      }
      case 'completion': {
        if (!example.completion.trim()) return null
        if (this.options.template) return this.#chat(example.messages, 0, this.options.template, where)
        const ids = this.#withEos(example.prompt + example.completion, tokenizer)
        const context = this.options.completionOnly === false ? 0 : commonPrefix(tokenizer.encode(example.prompt, true), ids)
        this.#turn(ids, tokenizer)
        return { ids, labels: ids.map((id, i) => (i < context ? IGNORE : id)) }
      }
      case 'chat': {
        if (!this.options.template)
          throw new DataError('the row is a conversation, and the model has no chat template', {
            ...at(where),
            why: 'A conversation can be written as text in many ways, and a base model knows none of them',
            fix: 'Choose a template, or use rows of prompt and completion',
          })
        return this.#chat(example.messages, example.trainFrom, this.options.template, where)
      }
    }
  }

  #chat(messages: readonly ChatMessage[], trainFrom: number, template: string, where: string | undefined): Encoded | null {
    const context = { bos_token: this.#bos, eos_token: this.#eos, tools: null, ...at(where) }
    const { text, spans } = assistantSpans(
      (m, addGenerationPrompt) => renderChat(template, m, { ...context, addGenerationPrompt }),
      messages,
      trainFrom,
    )
    if (!spans.length || !this.#spans || !this.tokenizer) return null
    const { ids, tokens } = this.#spans.encode(text, spans)
    this.tally.templated++
    for (const [from, to] of tokens) this.#turn(ids.slice(from, to), this.tokenizer)
    if (this.options.completionOnly === false) return { ids, labels: ids }
    const labels = ids.map(() => IGNORE)
    for (const [from, to] of tokens) for (let i = from; i < to; i++) labels[i] = ids[i] ?? IGNORE
    return { ids, labels }
  }

  /** One text with BOS as the tokenizer adds it and one EOS. */
  #withEos(text: string, tokenizer: Tokenizer): number[] {
    if (!this.#eos || this.#eosAdded || text.endsWith(this.#eos)) return tokenizer.encode(text, true)
    if (this.#eosParsed) return tokenizer.encode(text + this.#eos, true)
    return [...tokenizer.encode(text, true), tokenizer.eosId ?? 0]
  }

  #turn(ids: readonly number[], tokenizer: Tokenizer): void {
    this.tally.turns++
    const closing = ids.slice(-CLOSING).findLast((id) => tokenizer.isSpecial(id))
    if (closing === undefined) return
    this.tally.closed++
    this.tally.closingId = closing
  }

  #count(ids: readonly number[], tokenizer: Tokenizer): void {
    this.tally.encoded++
    if (tokenizer.bosId === null || ids[0] !== tokenizer.bosId) return
    this.tally.bos++
    if (ids[1] === tokenizer.bosId) this.tally.doubleBos++
  }
}

const at = (where: string | undefined): { where?: string } => (where === undefined ? {} : { where })
