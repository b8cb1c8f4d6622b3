/** @file What the data step decides, counts and shows: formats, options, statistics, previews. Plain data that can cross workers; no behaviour. */

export const FILE_KINDS = ['jsonl', 'json', 'csv', 'tsv', 'parquet', 'txt'] as const
export type FileKind = (typeof FILE_KINDS)[number]

export const FORMATS = ['messages', 'sharegpt', 'instruction', 'prompt-completion', 'text', 'tokens'] as const
/** The shape of a row. `messages`: OpenAI's role/content list; `sharegpt`: from/value list; `tokens`: rows already tokenised. */
export type Format = (typeof FORMATS)[number]

/** What a column can be used as. */
export type Field = 'messages' | 'system' | 'instruction' | 'input' | 'output' | 'prompt' | 'completion' | 'text' | 'input_ids' | 'labels'

/** Fields of each format: those a row must have, and those it may have. The mapping form is rendered from this. */
export const FIELDS: Readonly<Record<Format, { readonly required: readonly Field[]; readonly optional: readonly Field[] }>> = {
  messages: { required: ['messages'], optional: ['system'] },
  sharegpt: { required: ['messages'], optional: ['system'] },
  instruction: { required: ['instruction', 'output'], optional: ['input', 'system'] },
  'prompt-completion': { required: ['prompt', 'completion'], optional: ['system'] },
  text: { required: ['text'], optional: [] },
  tokens: { required: ['input_ids'], optional: ['labels'] },
}

/** Field → name of the column it is read from. */
export type Mapping = Readonly<Partial<Record<Field, string>>>

export interface Detection {
  readonly format: Format
  readonly mapping: Mapping
  /** One sentence for the user: what was seen and how it will be read. */
  readonly reason: string
  /** 0 … 1: share of the sampled rows that fit, lowered where names had to be guessed. */
  readonly confidence: number
}

export interface DataOptions {
  /** null: detected per file. */
  readonly format: Format | null
  /** null: detected. Used together with `format`. */
  readonly mapping: Mapping | null
  /** Length, in tokens, the statistics count cuts for. Rows themselves are kept whole; the collator cuts. */
  readonly seq: number
  /** Share of rows held out for evaluation, 0 … 0.9; 0 is none. */
  readonly evalFraction: number
  /** Of the train/eval split. */
  readonly seed: number
  /** Leave out rows whose tokens and labels repeat an earlier row's. They are counted either way. */
  readonly dedupe: boolean
  /** true: loss on completions (all assistant turns) only. false: on everything. null: completions, and everything for plain text. */
  readonly completionOnly: boolean | null
  /** Jinja source used instead of the tokenizer's chat template; '' is "use none"; null is the tokenizer's own. */
  readonly template: string | null
  /** Number of the model's embeddings: ids of tokenised rows must be below it. null: the tokenizer's, or unchecked. */
  readonly vocabSize: number | null
}

export const DEFAULT_DATA_OPTIONS: DataOptions = {
  format: null,
  mapping: null,
  seq: 128,
  evalFraction: 0,
  seed: 0,
  dedupe: false,
  completionOnly: null,
  template: null,
  vocabSize: null,
}

/** A row that is not used. */
export interface BadRow {
  readonly file: string
  /** 1-based line the row starts on; for Parquet its row number. */
  readonly line: number
  /** `empty`: nothing to train in it; `bad`: could not be read; `duplicate`: left out on request (`dedupe`). */
  readonly kind: 'bad' | 'empty' | 'duplicate'
  readonly why: string
  /** The first characters of the row, as they are in the file. */
  readonly excerpt: string
}

/** What cutting rows at a length does. Tokens are counted after the shift: the first token of a row is never predicted. */
export interface CutStats {
  readonly seq: number
  /** Rows longer than `seq`. */
  readonly truncated: number
  /** Rows that lose some trained tokens to the cut. */
  readonly answersCut: number
  /** Rows that lose all of their trained tokens: they teach nothing at this length. */
  readonly lost: number
  /** Trained tokens left, over all rows. */
  readonly trainableTokens: number
  /** Tokens left, over all rows. */
  readonly totalTokens: number
}

export interface LengthStats {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
  /** Bin i counts rows of length [i * binWidth, (i + 1) * binWidth). */
  readonly binWidth: number
  readonly bins: readonly number[]
  /** A length that cuts few answers: p99 rounded up to a multiple of 8. */
  readonly suggestedSeq: number
}

export interface DataStats {
  /** Rows met in the files: `usable` + bad + empty (+ left-out duplicates). */
  readonly rows: number
  readonly usable: number
  readonly train: number
  readonly held: number
  /** Exact counts; `setAside` lists the first of them. */
  readonly bad: number
  readonly empty: number
  readonly duplicates: number
  readonly setAside: readonly BadRow[]
  /** At the `seq` of the options, over training and held-out rows. */
  readonly cut: CutStats
  /** Over whole rows, after the shift. */
  readonly trainableTokens: number
  readonly totalTokens: number
  readonly lengths: LengthStats
}

/** One thing that was checked on the rows and is shown with a tick or a warning. */
export interface DataCheck {
  readonly id: 'template' | 'bos' | 'eos' | 'padding' | 'cut'
  readonly ok: boolean
  /** What was found, in words. */
  readonly text: string
}

export interface PreviewToken {
  readonly id: number
  /** As it looks on screen: spaces and newlines are themselves. */
  readonly text: string
  /** Its prediction counts in the loss. */
  readonly trained: boolean
  readonly special: boolean
  /** Beyond the cut of `seq`. */
  readonly cut: boolean
}
export interface PreviewRow {
  /** Index among all usable rows, in file order. */
  readonly index: number
  readonly file: string
  readonly line: number
  readonly held: boolean
  readonly tokens: readonly PreviewToken[]
  /** Tokens of the row; more than `tokens` holds where the preview was shortened. */
  readonly length: number
}

/** How one file was read. */
export interface FileReport {
  readonly name: string
  readonly kind: FileKind
  readonly bytes: number
  readonly rows: number
  readonly detection: Detection
  /** Column names met in the sample. */
  readonly columns: readonly string[]
  /** How rows were found, where there was a choice ("paragraphs separated by blank lines"). */
  readonly notes: readonly string[]
}

/** What is known of a file before it is tokenised: for showing at once and for remapping. */
export interface Inspection extends Omit<FileReport, 'rows' | 'detection'> {
  /** null where no format fits: the user maps columns. */
  readonly detection: Detection | null
  /** Why no format fits. */
  readonly problem: string | null
  /** First rows: column → value shortened for the screen. */
  readonly sample: readonly Readonly<Record<string, string>>[]
}

/** A data set as described to the page; its tokens stay with whoever built it. */
export interface DatasetSummary {
  /** Shown name: the file, or "a.jsonl and 2 more". */
  readonly name: string
  readonly files: readonly FileReport[]
  readonly stats: DataStats
  readonly checks: readonly DataCheck[]
  /** sha-256 over the training and held-out tokens, labels and row starts, hex. */
  readonly dataHash: string
  /** Loss on completions only, as decided. */
  readonly completionOnly: boolean
}
