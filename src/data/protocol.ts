/**
 * @file Everything that crosses the boundary between the page and the data worker. Plain data: structured clone and nothing else.
 *
 * The page talks through `DataClient` (client.ts), never to the worker itself:
 *
 *   const data = new DataClient(() => new Worker(new URL('../data/data.worker.ts', import.meta.url), { type: 'module' }))
 *   const seen = await data.inspect(files)                       // Inspection[]: kind, columns, format and reason, first rows; reads only the head
 *   const set = await data.build({ files, tokenizer, options }, { onProgress, signal })   // DatasetSummary; parses and tokenises everything
 *   const rows = await data.preview(0, 20)                       // PreviewRow[]: exact tokens of usable rows 0 … 19
 *   const cut = await data.cut(256)                              // CutStats at another length, without tokenising again
 *   const { train, held } = await data.rows()                    // TokenRows, copied to the page: hand them to the engine
 *   data.dispose()
 *
 * One client holds one data set: `build` replaces it, and a `build` that fails or is cancelled leaves none. A request that starts while an
 * `inspect` or `build` is under way waits its turn; aborting the signal rejects with the DOMException "AbortError". All other failures reject
 * with a RemoteDataError (an EtudeError: what, where, why, fix; `toWire` keeps them). A worker that died is started anew by the next request.
 */
import type { WireError } from '../errors.ts'
import type { DataOptions, DatasetSummary, CutStats, Inspection, PreviewRow } from './report.ts'
import type { TokenizerFiles, TokenRows } from './types.ts'

export interface BuildRequest {
  /** Structured-cloned File objects: their bytes are not copied. */
  readonly files: readonly File[]
  /** null: only rows already tokenised can be used. */
  readonly tokenizer: TokenizerFiles | null
  readonly options: DataOptions
}

export interface DataProgress {
  readonly label: string
  /** Bytes read of all files. */
  readonly done: number
  readonly total: number
  readonly rows: number
  readonly tokens: number
  /** Rows set aside so far. */
  readonly setAside: number
}

/** A request has an `id` and is answered by one `reply` or `error` with that id; `progress` may come before. */
export type DataCommand =
  | { readonly type: 'inspect'; readonly id: number; readonly files: readonly File[] }
  | ({ readonly type: 'build'; readonly id: number } & BuildRequest)
  | { readonly type: 'preview'; readonly id: number; readonly start: number; readonly count: number }
  | { readonly type: 'cut'; readonly id: number; readonly seq: number }
  | { readonly type: 'rows'; readonly id: number }
  /** Ends the request `target` early; that request is answered with an error named "AbortError". */
  | { readonly type: 'cancel'; readonly id: number; readonly target: number }

/** What each request's reply carries. */
export interface DataReplies {
  inspect: readonly Inspection[]
  build: DatasetSummary
  preview: readonly PreviewRow[]
  cut: CutStats
  rows: { readonly train: TokenRows; readonly held: TokenRows | null }
  cancel: null
}

export type DataEvent =
  | {
      [K in keyof DataReplies]: { readonly type: 'reply'; readonly id: number; readonly to: K; readonly value: DataReplies[K] }
    }[keyof DataReplies]
  | { readonly type: 'error'; readonly id: number; readonly error: WireError }
  | { readonly type: 'progress'; readonly id: number; readonly progress: DataProgress }
