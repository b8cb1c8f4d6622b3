/** @file What the data layer hands to the trainer: tokenised rows as flat arrays that can be transferred between workers. */

export type { TokenizerFiles } from '../io/tokenizer_files.ts'

/** Rows of token ids with a label each. All arrays are transferable. */
export interface TokenRows {
  /** Token ids of all rows, one after another. */
  readonly ids: Int32Array<ArrayBuffer>
  /** Label of each id: the id itself where trained, -100 where not. Not shifted: the trainer shifts. Same length as `ids`. */
  readonly labels: Int32Array<ArrayBuffer>
  /** Start of each row in `ids`; `rows + 1` entries. */
  readonly offsets: Uint32Array<ArrayBuffer>
}

export const rowCount = (d: TokenRows): number => d.offsets.length - 1

/** What a tokenizer must do for us. Implemented over `@huggingface/tokenizers` in data/tokenizer.ts. */
export interface Tokenizer {
  readonly vocabSize: number
  readonly bosId: number | null
  readonly eosId: number | null
  readonly padId: number | null
  /** Jinja source, or null: the model has no chat template. */
  readonly chatTemplate: string | null
  /** Ids of text. `special`: add what the tokenizer's post-processor adds (BOS …). Special tokens written in the text are always parsed. */
  encode(text: string, special: boolean): number[]
  /** Text of ids; `skipSpecial` leaves special tokens out. */
  decode(ids: readonly number[], skipSpecial: boolean): string
  /** The vocabulary entry of an id as it looks on screen. */
  token(id: number): string
  isSpecial(id: number): boolean
}

export interface ChatMessage {
  readonly role: string
  readonly content: string
}
