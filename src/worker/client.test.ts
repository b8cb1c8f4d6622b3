/** @file The client against a port that records what is posted and answers what a test tells it to. */
import { expect, test } from 'vitest'
import { EngineClient, RemoteError, type BroadcastEvent, type WorkerPort } from './client.ts'
import type { EngineCommand, EngineEvent } from './protocol.ts'

class Port implements WorkerPort {
  readonly sent: EngineCommand[] = []
  terminated = false
  readonly #listeners = new Map<string, (event: Event) => void>()
  postMessage(message: unknown): void {
    structuredClone(message)
    this.sent.push(message as EngineCommand)
  }
  addEventListener(type: string, listener: (event: Event) => void): void {
    this.#listeners.set(type, listener)
  }
  terminate(): void {
    this.terminated = true
  }
  say(data: EngineEvent): void {
    this.#listeners.get('message')?.(new MessageEvent('message', { data }))
  }
  crash(message: string): void {
    this.#listeners.get('error')?.(Object.assign(new Event('error'), { message }))
  }
}
const setup = (): { port: Port; client: EngineClient; events: BroadcastEvent[] } => {
  const port = new Port()
  const client = new EngineClient(port)
  const events: BroadcastEvent[] = []
  client.subscribe((e) => events.push(e))
  return { port, client, events }
}
const wire = { name: 'ModelError', message: 'm', what: 'bad shape', where: 'a.safetensors', why: 'w', fix: 'f' }

test('replies reach the request with their id, whatever their order', async () => {
  const { port, client } = setup()
  const first = client.request('list-runs', {})
  const second = client.request('pause', { runId: 'r' })
  expect(port.sent).toEqual([
    { type: 'list-runs', id: 1 },
    { type: 'pause', runId: 'r', id: 2 },
  ])
  port.say({ type: 'reply', id: 2, to: 'pause', value: null })
  port.say({ type: 'reply', id: 1, to: 'list-runs', value: [] })
  expect(await second).toBeNull()
  expect(await first).toEqual([])
})

test('an error rejects with its name and fields, and only an unclaimed one is broadcast', async () => {
  const { port, client, events } = setup()
  const load = client.request('load-model', { spec: { kind: 'starter' } })
  port.say({ type: 'error', id: 1, runId: null, error: wire })
  const error = await load.catch((e: unknown) => e)
  expect(error).toBeInstanceOf(RemoteError)
  expect(error).toMatchObject({ name: 'ModelError', what: 'bad shape', where: 'a.safetensors', why: 'w', fix: 'f' })
  expect(events).toEqual([])
  port.say({ type: 'error', id: null, runId: 'r', error: wire })
  expect(events).toHaveLength(1)
})

test('progress and tokens go to their request; abort posts cancel with its id and the worker settles it', async () => {
  const { port, client } = setup()
  const abort = new AbortController()
  const seen: string[] = []
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0, maxTokens: 8, stop: [] }
  const generated = client.request(
    'generate',
    { prompt: 'p', template: null, which: 'base', scale: 1, sampling },
    { signal: abort.signal, onToken: (t) => seen.push(t), onProgress: (p) => seen.push(p.label) },
  )
  port.say({ type: 'progress', id: 1, label: 'reading', done: 1, total: 2, unit: 'tensors' })
  port.say({ type: 'token', id: 1, text: 'a' })
  port.say({ type: 'token', id: 9, text: 'not mine' })
  abort.abort()
  expect(port.sent.at(-1)).toEqual({ type: 'cancel', id: 1 })
  port.say({ type: 'reply', id: 1, to: 'cancel', value: null })
  port.say({ type: 'reply', id: 1, to: 'generate', value: { text: 'a', tokens: 1, ms: 5, stopped: 'cancelled' } })
  expect((await generated).stopped).toBe('cancelled')
  expect(seen).toEqual(['reading', 'a'])
})

test('a crash of the worker rejects what is open and what comes later, and is told once', async () => {
  const { port, client, events } = setup()
  const open = client.request('init', {})
  port.crash('out of memory')
  port.crash('again')
  await expect(open).rejects.toMatchObject({ name: 'GpuError', where: 'out of memory' })
  await expect(client.request('init', {})).rejects.toMatchObject({ name: 'GpuError' })
  expect(events.map((e) => e.type)).toEqual(['device-lost'])
})

test('what cannot be cloned rejects and leaves nothing open', async () => {
  const { port, client } = setup()
  const files = [() => 0] as unknown as File[]
  await expect(client.request('load-adapter', { files })).rejects.toBeInstanceOf(RemoteError)
  expect(port.sent).toEqual([])
})
