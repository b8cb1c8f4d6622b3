/** @file The two workers as the page uses them. Made by main.tsx and handed over once; nothing else on the page knows how they come about. */
import type { BuildRequest, DataProgress, DataReplies } from '../data/protocol.ts'
import type { EngineClient } from '../worker/client.ts'

/** The data worker's client, by what is used of it. */
export interface DataService {
  inspect(files: readonly File[]): Promise<DataReplies['inspect']>
  build(request: BuildRequest, hooks: { onProgress?: (p: DataProgress) => void; signal?: AbortSignal }): Promise<DataReplies['build']>
  preview(start: number, count: number): Promise<DataReplies['preview']>
  cut(seq: number): Promise<DataReplies['cut']>
  rows(): Promise<DataReplies['rows']>
}

interface Services {
  readonly engine: EngineClient
  readonly data: DataService
}

let services: Services | null = null

export const connect = (s: Services): void => {
  services = s
}
const get = (): Services => {
  if (!services) throw new Error('connect() comes before any action')
  return services
}
export const engine = (): EngineClient => get().engine
export const data = (): DataService => get().data
