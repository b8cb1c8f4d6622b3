/** @file The page's end of the engine worker: typed requests with ids, progress, streamed tokens and cancel, and a stream of run events.
 * Knows the protocol and nothing of GPUs or of React. A request is cancelled by posting `{type: 'cancel', id}` with that request's id; the
 * worker then answers the request itself (a shortened reply, or an error named AbortError), so a promise always settles exactly once. */
import { EtudeError, toWire, type WireError } from '../errors.ts'
import type { EngineCommand, EngineEvent, Replies } from './protocol.ts'

/** What the client needs of a Worker. */
export interface WorkerPort {
  postMessage(message: unknown, transfer?: Transferable[]): void
  addEventListener(type: 'message' | 'error' | 'messageerror', listener: (event: Event) => void): void
  terminate(): void
}

/** An error that crossed from a worker: same fields and name as it had there. */
export class RemoteError extends EtudeError {
  override readonly name: string
  constructor(wire: WireError) {
    super(wire.what, wire)
    this.name = wire.name
  }
}

export type RequestType = keyof Replies
/** The fields of a request besides `type` and `id`. */
export type Fields<K extends RequestType> = FieldsOf<EngineCommand, K>
type FieldsOf<C, K> = C extends { readonly type: infer T } ? (K extends T ? Omit<C, 'type' | 'id'> : never) : never
export type ProgressEvent = Extract<EngineEvent, { type: 'progress' }>
/** Events that belong to no request: of runs, of the device, and errors with no request id. */
export type BroadcastEvent = Exclude<EngineEvent, { type: 'reply' | 'progress' | 'token' }>

export interface RequestHooks {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: ProgressEvent) => void
  /** Text as it is generated, piece by piece. */
  readonly onToken?: (text: string) => void
  readonly transfer?: Transferable[]
}

interface Pending {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly hooks: RequestHooks
  readonly forget: () => void
}

/** Requests to the engine worker. All failures reject with a RemoteError. */
export class EngineClient {
  readonly #port: WorkerPort
  readonly #pending = new Map<number, Pending>()
  readonly #listeners = new Set<(event: BroadcastEvent) => void>()
  #nextId = 1
  #dead: RemoteError | null = null

  constructor(port: WorkerPort) {
    this.#port = port
    port.addEventListener('message', (e) => {
      this.#receive((e as MessageEvent<EngineEvent>).data)
    })
    const die = (e: Event): void => {
      this.#die((e as ErrorEvent).message)
    }
    port.addEventListener('error', die)
    port.addEventListener('messageerror', die)
  }

  /** Post a request; resolves with what its reply carries. */
  request<K extends RequestType>(type: K, fields: Fields<K>, hooks: RequestHooks = {}): Promise<Replies[K]> {
    if (this.#dead) return Promise.reject(this.#dead)
    const id = this.#nextId++
    return new Promise<Replies[K]>((resolve, reject) => {
      const cancel = (): void => {
        this.#port.postMessage({ type: 'cancel', id } satisfies EngineCommand)
      }
      hooks.signal?.addEventListener('abort', cancel)
      const forget = (): void => {
        this.#pending.delete(id)
        hooks.signal?.removeEventListener('abort', cancel)
      }
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, hooks, forget })
      try {
        this.#port.postMessage({ ...fields, type, id }, hooks.transfer ?? [])
      } catch (e) {
        forget()
        reject(new RemoteError(toWire(e)))
        return
      }
      if (hooks.signal?.aborted) cancel()
    })
  }

  /** Listen to events of runs and of the device. Returns how to stop. */
  subscribe(listener: (event: BroadcastEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** End the worker; requests still open reject. */
  close(): void {
    this.#port.terminate()
    this.#die('The engine was closed')
  }

  #receive(event: EngineEvent): void {
    switch (event.type) {
      case 'reply': {
        if (event.to === 'cancel') return
        const open = this.#pending.get(event.id)
        open?.forget()
        open?.resolve(event.value)
        return
      }
      case 'progress':
        this.#pending.get(event.id)?.hooks.onProgress?.(event)
        return
      case 'token':
        this.#pending.get(event.id)?.hooks.onToken?.(event.text)
        return
      case 'error': {
        const open = event.id === null ? undefined : this.#pending.get(event.id)
        open?.forget()
        open?.reject(new RemoteError(event.error))
        if (!open || event.runId !== null) this.#broadcast(event)
        return
      }
      case 'run-status':
      case 'run-step':
      case 'run-eval':
      case 'run-sample':
      case 'device-lost':
        this.#broadcast(event)
        return
      default:
        event satisfies never
    }
  }

  #broadcast(event: BroadcastEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  #die(reason: string | undefined): void {
    if (this.#dead) return
    this.#dead = new RemoteError({
      name: 'GpuError',
      message: reason ?? '',
      what: 'The engine stopped working',
      ...(reason && { where: reason }),
      why: 'Nothing can be computed until it is started again. Runs are kept up to their last checkpoint.',
      fix: 'Reload the page; unfinished runs can be resumed from the run history.',
    })
    for (const open of [...this.#pending.values()]) {
      open.forget()
      open.reject(this.#dead)
    }
    this.#broadcast({ type: 'device-lost', error: toWire(this.#dead) })
  }
}
