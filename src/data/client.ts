/** @file The page's side of the data worker: promises for requests, progress by callback, cancelling by AbortSignal. See protocol.ts for how it is used. */
import { EtudeError, type WireError } from '../errors.ts'
import type { BuildRequest, DataCommand, DataEvent, DataProgress, DataReplies } from './protocol.ts'
import type { CutStats, DatasetSummary, Inspection, PreviewRow } from './report.ts'

/** What a worker must have; a Worker has it. */
export interface DataPort {
  postMessage(message: DataCommand): void
  addEventListener(type: 'message', listener: (e: MessageEvent<DataEvent>) => void): void
  addEventListener(type: 'error' | 'messageerror', listener: (e: Event) => void): void
  terminate(): void
}

/** A failure in the data worker, with its what, where, why and fix; `wire.name` is the name it had there. */
export class RemoteDataError extends EtudeError {
  override readonly name = 'RemoteDataError'
  constructor(readonly wire: WireError) {
    super(wire.what, { ...(wire.where && { where: wire.where }), ...(wire.why && { why: wire.why }), ...(wire.fix && { fix: wire.fix }) })
  }
}

export interface RequestHooks {
  readonly onProgress?: (progress: DataProgress) => void
  readonly signal?: AbortSignal
}

type Command<K extends DataCommand['type']> = Omit<Extract<DataCommand, { type: K }>, 'id' | 'type'>
interface Pending {
  readonly resolve: (value: never) => void
  readonly reject: (e: unknown) => void
  readonly onProgress: ((progress: DataProgress) => void) | undefined
}

const DIED: WireError = {
  name: 'DataError',
  what: 'the data worker stopped',
  why: 'It ran out of memory or could not be loaded',
  fix: 'Try again, with less data',
  message: 'The data worker stopped. It ran out of memory or could not be loaded. Try again, with less data.',
}

export class DataClient {
  #worker: DataPort | null = null
  #next = 1
  readonly #pending = new Map<number, Pending>()

  /** `start` makes the worker; called on the first request, and again after one died. */
  constructor(readonly start: () => DataPort) {}

  inspect(files: readonly File[], hooks: RequestHooks = {}): Promise<readonly Inspection[]> {
    return this.#request('inspect', { files }, hooks)
  }
  build(request: BuildRequest, hooks: RequestHooks = {}): Promise<DatasetSummary> {
    return this.#request('build', request, hooks)
  }
  /** Usable rows start … start + count - 1, fewer at the end. */
  preview(start: number, count: number): Promise<readonly PreviewRow[]> {
    return this.#request('preview', { start, count }, {})
  }
  cut(seq: number): Promise<CutStats> {
    return this.#request('cut', { seq }, {})
  }
  rows(): Promise<DataReplies['rows']> {
    return this.#request('rows', {}, {})
  }
  /** Ends the worker; what is under way rejects with AbortError. */
  dispose(): void {
    this.#worker?.terminate()
    this.#fail(new DOMException('The data worker was closed', 'AbortError'))
  }

  #request<K extends keyof DataReplies>(type: K, command: Command<K>, { signal, onProgress }: RequestHooks): Promise<DataReplies[K]> {
    if (signal?.aborted) return Promise.reject(abortReason())
    const id = this.#next++
    const promise = new Promise<DataReplies[K]>((resolve, reject) => this.#pending.set(id, { resolve, reject, onProgress }))
    const worker = (this.#worker ??= this.#open())
    const cancel = (): void => worker.postMessage({ type: 'cancel', id: this.#next++, target: id })
    signal?.addEventListener('abort', cancel, { once: true })
    worker.postMessage({ ...command, type, id } as unknown as DataCommand)
    return promise.finally(() => signal?.removeEventListener('abort', cancel))
  }

  #open(): DataPort {
    const worker = this.start()
    const died = (): void => {
      if (this.#worker === worker) this.#fail(new RemoteDataError(DIED))
      worker.terminate()
    }
    worker.addEventListener('message', (e) => this.#receive(e.data))
    worker.addEventListener('error', died)
    worker.addEventListener('messageerror', died)
    return worker
  }

  #fail(e: unknown): void {
    this.#worker = null
    for (const p of this.#pending.values()) p.reject(e)
    this.#pending.clear()
  }

  #receive(event: DataEvent): void {
    const pending = this.#pending.get(event.id)
    if (!pending) return
    if (event.type === 'progress') return pending.onProgress?.(event.progress)
    this.#pending.delete(event.id)
    if (event.type === 'reply') pending.resolve(event.value as never)
    else pending.reject(event.error.name === 'AbortError' ? abortReason() : new RemoteDataError(event.error))
  }
}

const abortReason = (): DOMException => new DOMException('Cancelled', 'AbortError')
