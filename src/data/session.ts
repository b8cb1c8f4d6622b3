/** @file The data worker's side of the protocol, without the worker: commands in, events out. One data set at a time; runs in tests as it is. */
import { DataError, toWire } from '../errors.ts'
import { fromBlob } from '../io/sources.ts'
import { buildDataset, type Dataset } from './dataset.ts'
import { inspectFile } from './inspect.ts'
import type { DataCommand, DataEvent, DataProgress, DataReplies } from './protocol.ts'
import type { PreviewRow } from './report.ts'
import { loadTokenizer } from './tokenizer.ts'
import type { TokenRows } from './types.ts'

type Post = (event: DataEvent, transfer: Transferable[]) => void
type Work<K extends keyof DataReplies> = (signal: AbortSignal) => Promise<DataReplies[K]> | DataReplies[K]
/** Rows one preview request may ask for. */
const MAX_PREVIEW = 1000

const copyRows = (rows: TokenRows): TokenRows => ({ ids: rows.ids.slice(), labels: rows.labels.slice(), offsets: rows.offsets.slice() })
const buffers = (rows: TokenRows | null): Transferable[] => (rows ? [rows.ids.buffer, rows.labels.buffer, rows.offsets.buffer] : [])

/** Answers commands in the order they come; `cancel` overtakes them. */
export class DataSession {
  #dataset: Dataset | null = null
  #queue: Promise<void> = Promise.resolve()
  readonly #running = new Map<number, AbortController>()

  constructor(readonly post: Post) {}

  handle(command: DataCommand): void {
    switch (command.type) {
      case 'cancel':
        this.#running.get(command.target)?.abort()
        this.post({ type: 'reply', id: command.id, to: 'cancel', value: null }, [])
        return
      case 'inspect':
        this.#run('inspect', command.id, (signal) => Promise.all(command.files.map((f) => inspectFile(fromBlob(f), signal))))
        return
      case 'build':
        this.#run('build', command.id, async (signal) => {
          this.#dataset = null
          const tokenizer = command.tokenizer && loadTokenizer(command.tokenizer)
          const sources = command.files.map((f) => fromBlob(f))
          const onProgress = throttled((progress: DataProgress) => this.post({ type: 'progress', id: command.id, progress }, []))
          this.#dataset = await buildDataset(sources, tokenizer, command.options, { signal, onProgress })
          const { name, files, stats, checks, dataHash, completionOnly } = this.#dataset
          return { name, files, stats, checks, dataHash, completionOnly }
        })
        return
      case 'preview':
        this.#run('preview', command.id, () => this.#preview(command.start, command.count))
        return
      case 'cut':
        this.#run('cut', command.id, () => this.#built().cut(command.seq))
        return
      case 'rows':
        this.#run('rows', command.id, () => {
          const { train, held } = this.#built()
          return { train: copyRows(train), held: held && copyRows(held) }
        })
        return
      default:
        command satisfies never
    }
  }

  #built(): Dataset {
    if (!this.#dataset) throw new DataError('there is no data set', { fix: 'Choose files first' })
    return this.#dataset
  }

  #preview(start: number, count: number): PreviewRow[] {
    const data = this.#built()
    const rows: PreviewRow[] = []
    for (let i = start; i < start + Math.min(count, MAX_PREVIEW); i++) {
      const row = data.preview(i)
      if (!row) break
      rows.push(row)
    }
    return rows
  }

  #run<K extends keyof DataReplies>(to: K, id: number, work: Work<K>): void {
    const controller = new AbortController()
    this.#running.set(id, controller)
    this.#queue = this.#queue.then(async () => {
      try {
        controller.signal.throwIfAborted()
        const value = await work(controller.signal)
        // K is one of the keys, so this is one of the union's replies; TypeScript does not follow that through a generic.
        const reply = { type: 'reply', id, to, value } as DataEvent
        this.post(reply, reply.type === 'reply' && reply.to === 'rows' ? [...buffers(reply.value.train), ...buffers(reply.value.held)] : [])
      } catch (e) {
        this.post({ type: 'error', id, error: toWire(e) }, [])
      } finally {
        this.#running.delete(id)
      }
    })
  }
}

/** Lets one call through every 100 ms. */
function throttled<T>(f: (value: T) => void): (value: T) => void {
  let last = -Infinity
  return (value) => {
    const now = performance.now()
    if (now - last < 100) return
    last = now
    f(value)
  }
}
