/** @file The engine without a worker: requests as promises, events collected. */
import { readFileSync } from 'node:fs'
import type { TokenRows } from '../src/data/types.ts'
import { RUN_OPTIONS, type RunConfig, type RunExtras } from '../src/train/run_config.ts'
import { defaults } from '../src/options.ts'
import type { Gpu } from '../src/gpu/device.ts'
import { memoryStore } from '../src/io/blob_store.ts'
import type { WireError } from '../src/errors.ts'
import { Engine } from '../src/worker/engine/engine.ts'
import type { EngineDeps } from '../src/worker/engine/shared.ts'
import type { Fields, RequestType } from '../src/worker/client.ts'
import type { EngineCommand, EngineEvent, Replies } from '../src/worker/protocol.ts'
import { gpu } from './gpu.ts'

/** An error reply, as the page would see it. */
export class Refused extends Error {
  constructor(readonly wire: WireError) {
    super(`${wire.name}: ${wire.message}`)
  }
}

export class Harness {
  readonly engine: Engine
  readonly events: EngineEvent[] = []
  #next = 1
  readonly #watchers = new Set<(e: EngineEvent) => void>()

  constructor(deps: Partial<EngineDeps> & { device?: Gpu } = {}) {
    const { device = gpu, ...rest } = deps
    this.engine = new Engine({
      store: memoryStore(),
      fetch: () => Promise.reject(new Error('no network in tests')),
      starterUrl: 'http://localhost/starter/',
      requestGpu: () => Promise.resolve(device),
      post: (e) => {
        this.events.push(e)
        for (const w of this.#watchers) w(e)
      },
      ...rest,
    })
  }

  /** Post a request; `begun` gets its id, to cancel by. */
  request<K extends RequestType>(type: K, fields: Fields<K>, begun: (id: number) => void = () => undefined): Promise<Replies[K]> {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      const watch = (e: EngineEvent): void => {
        if (e.type === 'reply' && e.id === id) {
          this.#watchers.delete(watch)
          resolve(e.value as Replies[K])
        } else if (e.type === 'error' && e.id === id) {
          this.#watchers.delete(watch)
          reject(new Refused(e.error))
        }
      }
      this.#watchers.add(watch)
      // Rows are handed over for good, as the page does. (Node cannot clone a File.)
      const given = type === 'start' || type === 'plan' ? structuredClone(fields) : fields
      this.engine.handle({ ...given, type, id } as unknown as EngineCommand)
      begun(id)
    })
  }
  cancel(id: number): void {
    this.engine.handle({ type: 'cancel', id })
  }
  /** The next event that `is` says yes to; one that has come already counts. */
  until(is: (e: EngineEvent) => boolean): Promise<EngineEvent> {
    const seen = this.events.find(is)
    if (seen) return Promise.resolve(seen)
    return new Promise((resolve) => {
      const watch = (e: EngineEvent): void => {
        if (!is(e)) return
        this.#watchers.delete(watch)
        resolve(e)
      }
      this.#watchers.add(watch)
    })
  }
  of<T extends EngineEvent['type']>(type: T): Extract<EngineEvent, { type: T }>[] {
    return this.events.filter((e): e is Extract<EngineEvent, { type: T }> => e.type === type)
  }
  ended(runId: string): Promise<EngineEvent> {
    return this.until((e) => e.type === 'run-status' && e.runId === runId && ['done', 'stopped', 'failed'].includes(e.status))
  }
}

/** Rows of a JSONL file of `input_ids` and `labels`. */
export function tokenRows(path: string, limit = Infinity): TokenRows {
  const rows = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .slice(0, limit)
    .map((l) => JSON.parse(l) as { input_ids: number[]; labels: number[] })
  const offsets = new Uint32Array(rows.length + 1)
  rows.forEach((r, i) => (offsets[i + 1] = offsets[i] + r.input_ids.length))
  return { ids: Int32Array.from(rows.flatMap((r) => r.input_ids)), labels: Int32Array.from(rows.flatMap((r) => r.labels)), offsets }
}

export const config = (method: string, options: Record<string, unknown>, run: Partial<RunConfig['run']>): RunConfig => ({
  method,
  options,
  run: { ...defaults(RUN_OPTIONS), batch: 2, seq: 48, steps: 6, lr: 1e-2, ...run },
})
export const EXTRAS: RunExtras = {
  evalEvery: 3,
  patience: 0,
  keepBest: false,
  sampleEvery: 0,
  samplePrompts: [],
  sampleTokens: 8,
  checkpointEvery: 0,
}
