/** @file A tokenizer's files as plain data that can cross workers. What they mean is `data/tokenizer.ts`'s business. */

export interface TokenizerFiles {
  /** Parsed tokenizer.json. */
  readonly tokenizer: unknown
  /** Parsed tokenizer_config.json ({} if absent), with `chat_template` set where a chat_template.jinja or GGUF metadata had one. */
  readonly config: Readonly<Record<string, unknown>>
}
