/** @file Client, session and data set together, over a channel that clones what crosses it, as a worker's does. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { toWire } from '../errors.ts'
import { DataClient, RemoteDataError, type DataPort } from './client.ts'
import type { DataCommand, DataEvent, DataProgress } from './protocol.ts'
import { DEFAULT_DATA_OPTIONS } from './report.ts'
import { DataSession } from './session.ts'
import { rowCount } from './types.ts'

/** As a worker would get it; Node 20 clones a File to a nameless Blob, so files pass as they are. */
const cloned = (m: DataCommand): DataCommand =>
  'files' in m ? { ...structuredClone({ ...m, files: [] }), files: m.files } : structuredClone(m)

/** A port to a session in the same thread. `die` makes it fail as a crashed worker does. */
function port(): DataPort & { die(): void } {
  const target = new EventTarget()
  let open = true
  const session = new DataSession((event, transfer) => {
    const data = structuredClone(event, { transfer })
    setTimeout(() => open && target.dispatchEvent(new MessageEvent('message', { data })))
  })
  return {
    postMessage: (message: DataCommand) => void setTimeout(() => open && session.handle(cloned(message))),
    addEventListener: (type: string, listener: (e: MessageEvent<DataEvent>) => void) =>
      target.addEventListener(type, listener as EventListener),
    terminate: () => (open = false),
    die: () => target.dispatchEvent(new Event('error')),
  }
}
const TOKENIZER = {
  tokenizer: JSON.parse(
    readFileSync(resolve(import.meta.dirname, '../../test/fixtures/data/golden/bytelevel.tokenizer.json'), 'utf8'),
  ) as unknown,
  config: { bos_token: '<|im_start|>', eos_token: '<|im_end|>' },
}
const file = (name: string, rows: readonly unknown[]): File => new File([rows.map((r) => JSON.stringify(r)).join('\n')], name)
const PAIRS = Array.from({ length: 40 }, (_, i) => ({ prompt: `What is ${i}? `, completion: `It is ${i}.` }))

describe('DataClient', () => {
  it('inspects, builds, previews, recounts and hands out rows', async () => {
    const client = new DataClient(port)
    const files = [file('pairs.jsonl', PAIRS)]
    const [seen] = await client.inspect(files)
    expect([seen?.kind, seen?.detection?.format, seen?.sample[0]]).toEqual(['jsonl', 'prompt-completion', PAIRS[0]])
    const progress: DataProgress[] = []
    const set = await client.build(
      { files, tokenizer: TOKENIZER, options: { ...DEFAULT_DATA_OPTIONS, evalFraction: 0.25 } },
      { onProgress: (p) => progress.push(p) },
    )
    expect([set.stats.usable, set.stats.train, set.stats.held]).toEqual([40, 30, 10])
    expect(progress.length).toBeGreaterThan(0)
    const preview = await client.preview(38, 20)
    expect(preview.map((r) => [r.index, r.line])).toEqual([
      [38, 39],
      [39, 40],
    ])
    expect(preview[0]?.tokens.map((t) => t.text).join('')).toBe('What is 38? It is 38.<|im_end|>')
    expect((await client.cut(4)).truncated).toBe(40)
    const { train, held } = await client.rows()
    expect([rowCount(train), held && rowCount(held)]).toEqual([30, 10])
    expect((await client.rows()).train.ids).toEqual(train.ids)
    client.dispose()
  })

  it('carries errors with all their fields', async () => {
    const client = new DataClient(port)
    const e = await client
      .build({ files: [new File([''], 'none.csv')], tokenizer: TOKENIZER, options: DEFAULT_DATA_OPTIONS })
      .catch((x: unknown) => x)
    expect(e).toBeInstanceOf(RemoteDataError)
    expect(toWire(e)).toMatchObject({ what: 'the file is empty', where: 'none.csv', fix: expect.any(String) as string })
    await expect(client.preview(0, 1)).rejects.toThrow(/no data set/)
  })

  it('cancels a build, before and while it runs', async () => {
    const client = new DataClient(port)
    const big = file(
      'big.jsonl',
      Array.from({ length: 20_000 }, (_, i) => ({ text: `The tide goes out again, ${i} times over, and comes back.` })),
    )
    const request = { files: [big], tokenizer: TOKENIZER, options: DEFAULT_DATA_OPTIONS }
    await expect(client.build(request, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' })
    const stop = new AbortController()
    const building = client.build(request, { signal: stop.signal, onProgress: () => stop.abort() })
    await expect(building).rejects.toMatchObject({ name: 'AbortError' })
    expect((await client.build({ ...request, files: [file('small.jsonl', PAIRS)] })).stats.usable).toBe(40)
  })

  it('a worker that dies fails what is under way, and the next request starts another', async () => {
    const ports: ReturnType<typeof port>[] = []
    const client = new DataClient(() => {
      const p = port()
      ports.push(p)
      return p
    })
    const inspecting = client.inspect([file('a.jsonl', PAIRS)])
    ports[0]?.die()
    await expect(inspecting).rejects.toThrow(/data worker stopped/)
    expect(await client.inspect([file('a.jsonl', PAIRS)])).toHaveLength(1)
    expect(ports).toHaveLength(2)
  })
})
