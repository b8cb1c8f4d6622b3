/** Models from the studio's own origin and from the hub, over servers that are functions. */
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Harness, type Refused } from '../../../test/engine.ts'
import { describeShared } from '../../../test/shared.ts'
import { memoryStore } from '../../io/blob_store.ts'

const COMMIT = 'c'.repeat(40)

describeShared('where a model comes from', ['models', 'stories260K'], (folder) => {
  const file = async (name: string): Promise<Response> => new Response(await readFile(join(folder, name)))
  const urlOf = (input: RequestInfo | URL): URL => new URL(input instanceof Request ? input.url : input)

  test('the starter: four files beside the studio, named in progress', async () => {
    const asked: string[] = []
    const h = new Harness({
      starterUrl: 'http://127.0.0.1:1/etude/starter/',
      fetch: (input) => {
        asked.push(urlOf(input).pathname)
        return file(asked.at(-1)!.split('/').at(-1)!)
      },
    })
    await h.request('init', {})
    const info = await h.request('load-model', { spec: { kind: 'starter' } })
    expect(info).toMatchObject({ name: 'starter', parameters: 260032 })
    expect(asked).toEqual(['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'].map((n) => `/etude/starter/${n}`))
    expect(h.of('progress').map((p) => p.label)).toContain('model.safetensors')
    await h.engine.close()
  })

  test('the starter that is not served says which file and what to do', async () => {
    const h = new Harness({ fetch: async () => new Response('', { status: 404 }) })
    await h.request('init', {})
    const e = await h.request('load-model', { spec: { kind: 'starter' } }).catch((x: unknown) => x)
    expect((e as Refused).wire).toMatchObject({ name: 'FileError', where: 'config.json', why: 'The server answered 404' })
    await h.engine.close()
  })

  test('the hub: downloaded once with progress, found again without a network, cancelled without a trace on the GPU', async () => {
    const names = (await readdir(folder)).filter((n) => n !== 'golden.json')
    let served = 0
    const hub: typeof fetch = async (input) => {
      const { pathname } = urlOf(input)
      served++
      if (pathname.startsWith('/api/models/')) {
        const siblings = await Promise.all(names.map(async (n) => ({ rfilename: n, size: (await readFile(join(folder, n))).length })))
        return Response.json({ sha: COMMIT, siblings })
      }
      return file(pathname.split('/').at(-1)!)
    }
    const store = memoryStore()
    const spec = { kind: 'hub', repo: 'someone/stories', revision: 'main', token: null } as const
    const first = new Harness({ store, fetch: hub })
    await first.request('init', {})
    const info = await first.request('load-model', { spec })
    expect(info).toMatchObject({ name: 'someone/stories', parameters: 260032 })
    expect(served).toBeGreaterThan(names.length - 1)
    const last = first.of('progress').at(-1)!
    expect(last.unit).toBe('bytes')
    expect(last.done).toBe(last.total)
    await first.engine.close()

    const offline = new Harness({ store, fetch: () => Promise.reject(new TypeError('no network')) })
    await offline.request('init', {})
    expect((await offline.request('load-model', { spec })).fingerprint).toBe(info.fingerprint)
    const [kept, ...others] = await offline.request('list-downloads', {})
    expect(others).toEqual([])
    expect(kept).toMatchObject({ repo: 'someone/stories', complete: true })
    expect(kept.bytes).toBeGreaterThan(info.fileBytes)
    const inUse = await offline.request('delete-download', { repo: 'someone/stories' }).catch((x: unknown) => x)
    expect((inUse as Refused).wire).toMatchObject({ name: 'ModelError', where: 'someone/stories', what: 'this download is in use' })
    await offline.engine.close()
    const other = new Harness({ store })
    await other.request('delete-download', { repo: 'someone/stories' })
    expect(await other.request('list-downloads', {})).toEqual([])
    expect(await store.list('')).toEqual([])

    const never: typeof fetch = (_, init) =>
      new Promise((_resolve, reject) => init?.signal?.addEventListener('abort', () => reject(init.signal!.reason as Error)))
    const h = new Harness({ fetch: never })
    await h.request('init', {})
    const e = await h.request('load-model', { spec }, (id) => setTimeout(() => h.cancel(id), 20)).catch((x: unknown) => x)
    expect((e as Refused).wire.name).toBe('AbortError')
    await h.engine.close()
  })
})
