import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { memoryStore, type BlobStore } from './blob_store.ts'
import { downloadedModels, fetchModel, removeDownload } from './hub.ts'
import type { HubOptions, HubProgress } from './hub_client.ts'
import { parseHubId, parseListing, pickFiles } from './hub_files.ts'
import { readAll } from './sources.ts'

const COMMIT = 'a'.repeat(40)
const MODEL = 20 * 2 ** 20
const content = (name: string, size: number) => {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = (i * 31 + (i >> 12) + name.length) & 255
  return bytes
}
const MODEL_BYTES = content('model.safetensors', MODEL)

/** A hub with one repository. `cut`: bytes after which a body breaks, once each. */
class FakeHub {
  readonly requests: { url: string; headers: Headers }[] = []
  files = new Map([
    ['config.json', content('config.json', 100)],
    ['model.safetensors', MODEL_BYTES],
    ['tokenizer.json', content('tokenizer.json', 1000)],
  ])
  extra: unknown[] = []
  cut: number[] = []
  respond: ((url: string, headers: Headers) => Response | null) | null = null
  offline = false
  ranges = true
  announce = 0

  readonly fetch: typeof fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : input.toString()
    const headers = new Headers(init?.headers)
    this.requests.push({ url, headers })
    init?.signal?.throwIfAborted()
    if (this.offline) throw new TypeError('Failed to fetch')
    const special = this.respond?.(url, headers)
    if (special) return special
    if (url.includes('/api/models/')) {
      const siblings = [...this.files].map(([rfilename, b]) => ({ rfilename, size: b.length + this.announce }))
      return Response.json({ sha: COMMIT, siblings: [...siblings, ...this.extra] })
    }
    const bytes = this.files.get(decodeURIComponent(url.split('/').at(-1) ?? ''))
    if (!bytes) return new Response('', { status: 404 })
    const start = this.ranges ? Number(/bytes=(\d+)-/.exec(headers.get('range') ?? '')?.[1] ?? 0) : 0
    const cut = this.cut.shift() ?? Infinity
    let at = start
    const body = new ReadableStream({
      pull: (c) => {
        const next = Math.min(at + 2 ** 20, bytes.length, start + cut)
        if (init?.signal?.aborted) c.error(init.signal.reason)
        else if (at - start >= cut) c.error(new TypeError('network error'))
        else if (at >= bytes.length) c.close()
        else c.enqueue(bytes.slice(at, next))
        at = next
      },
    })
    return start
      ? new Response(body, { status: 206, headers: { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } })
      : new Response(body)
  }
}

let hub: FakeHub
let store: BlobStore
const get = (options: Partial<HubOptions> = {}, name = 'owner/name') => fetchModel(name, { store, fetch: hub.fetch, wait: 0, ...options })
const downloads = () => hub.requests.filter((r) => r.url.includes('/resolve/'))
beforeEach(() => {
  hub = new FakeHub()
  store = memoryStore()
})

describe('fetchModel', () => {
  it('downloads what a model needs, at one commit, with progress', async () => {
    const progress: HubProgress[] = []
    hub.extra = [
      'pytorch_model.bin',
      'modeling.py',
      'README.md',
      'onnx/model.onnx',
      '../../x.safetensors',
      '..\\config.json',
      '/etc/passwd',
    ].map((rfilename) => ({ rfilename, size: 5 }))
    const m = await get({ onProgress: (p) => progress.push(p) })
    expect(m.commit).toBe(COMMIT)
    expect([...m.files.keys()].sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
    for (const [name, bytes] of hub.files) expect(Buffer.compare(await readAll(m.files.get(name)!, 1e9), bytes)).toBe(0)
    expect(hub.requests[0].url).toBe('https://huggingface.co/api/models/owner/name/revision/main?blobs=true')
    for (const r of downloads()) expect(r.url).toMatch(new RegExp(`^https://huggingface\\.co/owner/name/resolve/${COMMIT}/[a-z_.]+$`))
    expect(progress.at(-1)).toMatchObject({ done: MODEL + 1100, total: MODEL + 1100 })
    for (let i = 1; i < progress.length; i++) expect(progress[i].done).toBeGreaterThanOrEqual(progress[i - 1].done)
    expect(hub.requests.every((r) => !r.headers.has('authorization'))).toBe(true)
  })
  it('downloads nothing twice, and works from the store without a network', async () => {
    await get()
    hub.requests.length = 0
    expect((await get()).files.size).toBe(3)
    expect(downloads()).toEqual([])
    hub.offline = true
    expect((await get()).files.size).toBe(3)
    await expect(get({ retries: 1 }, 'owner/other')).rejects.toThrow(/owner\/other.*connection failed/)
    expect(await downloadedModels(store)).toEqual([{ repo: 'owner/name', bytes: expect.any(Number) as number, complete: true }])
    await removeDownload(store, 'owner/name')
    expect(await store.list('')).toEqual([])
  })
  it('goes on where a cut connection ended', async () => {
    hub.cut = [Infinity, Infinity, 9 * 2 ** 20, 5 * 2 ** 20]
    const m = await get()
    expect(Buffer.compare(await readAll(m.files.get('model.safetensors')!, 1e9), hub.files.get('model.safetensors')!)).toBe(0)
    expect(downloads().map((r) => r.headers.get('range'))).toEqual([null, null, null, `bytes=${9 * 2 ** 20}-`, `bytes=${14 * 2 ** 20}-`])
  })
  it('goes on after it was cancelled', async () => {
    const abort = new AbortController()
    const onProgress = (p: HubProgress) => p.done > 10 * 2 ** 20 && abort.abort()
    await expect(get({ signal: abort.signal, onProgress })).rejects.toThrow(/abort/i)
    const part = (await store.list('hub/')).find((f) => f.key.endsWith('.part'))
    expect(part?.size).toBeGreaterThan(8 * 2 ** 20)
    expect(await downloadedModels(store)).toEqual([{ repo: 'owner/name', bytes: part!.size + 1100, complete: false }])
    hub.requests.length = 0
    await get()
    expect(downloads()[0].headers.get('range')).toBe(`bytes=${part?.size}-`)
  })
  it('what came of a cancelled download can be deleted; other repositories stay', async () => {
    await get({}, 'owner/name')
    const abort = new AbortController()
    const onProgress = (p: HubProgress) => p.done > 10 * 2 ** 20 && abort.abort()
    await expect(get({ signal: abort.signal, onProgress }, 'owner/other')).rejects.toThrow(/abort/i)
    const listed = async () => (await downloadedModels(store)).map((d) => `${d.repo} ${d.complete}`)
    expect(await listed()).toEqual(['owner/name true', 'owner/other false'])
    await removeDownload(store, 'owner/other')
    expect(await listed()).toEqual(['owner/name true'])
    hub.offline = true
    expect((await get({}, 'owner/name')).files.size).toBe(3)
  })
  it('begins anew where the server knows no ranges, or sends another part', async () => {
    hub.ranges = false
    hub.cut = [Infinity, Infinity, 9 * 2 ** 20]
    expect((await get()).files.size).toBe(3)
    store = memoryStore()
    hub.cut = [Infinity, Infinity, 9 * 2 ** 20]
    let wrong = 1
    hub.respond = (_, h) =>
      h.has('range') && wrong-- > 0 ? new Response('x', { status: 206, headers: { 'content-range': 'bytes 7-7/8' } }) : null
    const m = await get()
    expect(Buffer.compare(await readAll(m.files.get('model.safetensors')!, 1e9), hub.files.get('model.safetensors')!)).toBe(0)
    store = memoryStore()
    hub.cut = [Infinity, Infinity, 9 * 2 ** 20]
    wrong = 1
    hub.respond = (_, h) => (h.has('range') && wrong-- > 0 ? new Response('', { status: 416 }) : null)
    expect((await get()).files.size).toBe(3)
  })
  it('refuses more or less bytes than were announced', async () => {
    hub.announce = 1
    await expect(get({ retries: 0 })).rejects.toThrow(/ended after 100 of 101 bytes/)
    hub.announce = -1
    store = memoryStore()
    await expect(get()).rejects.toThrow(/More than the 99 bytes/)
    expect((await store.list('')).length).toBe(0)
  })
  it('sends the token to the hub only, and stores it nowhere', async () => {
    await get({ token: 'hf_secret' })
    for (const { url, headers } of hub.requests) {
      expect(new URL(url).origin).toBe('https://huggingface.co')
      expect(headers.get('authorization')).toBe('Bearer hf_secret')
      expect(url).not.toContain('secret')
    }
    for (const { key } of await store.list('')) {
      expect(key).not.toContain('secret')
      if (key.endsWith('.json')) expect(new TextDecoder().decode(await readAll((await store.read(key))!, 1e9))).not.toContain('secret')
    }
    await expect(get({ token: 'two words' })).rejects.toThrow(/no access token/)
    await expect(get({ token: 'hf_x\r\nX-Y: z' })).rejects.toThrow(/no access token/)
  })
  it.each([
    [401, '', null, /no such public repository.*access token/],
    [401, '', 'hf_x', /does not accept the access token/],
    [401, 'GatedRepo', null, /on request only.*Accept the conditions at https:\/\/huggingface\.co\/owner\/name/],
    [403, 'GatedRepo', 'hf_x', /account of your token/],
    [404, 'RepoNotFound', null, /no such repository/],
    [404, 'RevisionNotFound', null, /no such revision/],
    [429, '', null, /refuses more requests/],
    [500, '', null, /connection failed.*answered 500/],
    [418, '', null, /answered 418/],
  ])('explains %i %s', async (status, code, token, message) => {
    hub.respond = () => new Response('', { status, headers: code ? { 'x-error-code': code } : {} })
    await expect(get({ token, retries: 1 })).rejects.toThrow(message)
    await expect(get({ token, retries: 0 })).rejects.toThrow(FileError)
  })
  it('refuses a listing that is none', async () => {
    for (const body of ['<html>', '[]', '{"sha":"main","siblings":[]}', `{"sha":"${COMMIT}"}`]) {
      hub.respond = () => new Response(body)
      await expect(get()).rejects.toThrow(FileError)
    }
  })
  it('says before it begins when there is no room', async () => {
    store = memoryStore(2 ** 20)
    await expect(get()).rejects.toThrow(/takes 21 MiB.*store 1 MiB/)
    expect(downloads()).toEqual([])
  })
})

describe('parseHubId', () => {
  it('reads what people write', () => {
    expect(parseHubId('HuggingFaceTB/SmolLM2-135M')).toEqual({ repo: 'HuggingFaceTB/SmolLM2-135M', revision: 'main', pick: null })
    expect(parseHubId(' gpt2 ', 'v1')).toEqual({ repo: 'gpt2', revision: 'v1', pick: null })
    expect(parseHubId('a/b@refs/pr/1:Q4_1')).toEqual({ repo: 'a/b', revision: 'refs/pr/1', pick: 'Q4_1' })
    expect(parseHubId('https://huggingface.co/a/b/tree/v2')).toEqual({ repo: 'a/b', revision: 'v2', pick: null })
    expect(parseHubId('https://huggingface.co/a/b/')).toMatchObject({ repo: 'a/b' })
  })
  it.each([
    '',
    '/',
    'a/',
    'a/b/c',
    '../b',
    'a/..',
    'a/b?x',
    'a/b#c',
    'a b/c',
    'a/-b',
    'a/b-',
    'a/b.git',
    'a--b/c',
    'a/b@',
    'a/b@..',
    'a/b@x/../y',
    'a/b:',
    'a/b:x/y',
    'http://huggingface.co/a/b',
    'https://evil.example/a/b',
    'a/é',
  ])('refuses %j', (text) => {
    expect(() => parseHubId(text)).toThrow(FileError)
  })
  it('what it accepts makes an address under the hub', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[ab./@:%\\?#-]{1,12}$/)), (text) => {
        try {
          const { repo } = parseHubId(text)
          expect(new URL(`https://huggingface.co/${repo}/x`).pathname).toBe(`/${repo}/x`)
        } catch (e) {
          if (!(e instanceof FileError)) throw e
        }
      }),
      { numRuns: 1000 },
    )
  })
})

describe('pickFiles', () => {
  const pick = (name: string, ...files: string[]) =>
    pickFiles(
      files.map((f) => ({ name: f, size: 1 })),
      parseHubId(name),
    ).map((f) => f.name)
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
  it('takes one form of the weights', () => {
    expect(pick('a/b', 'config.json', 'model.safetensors', 'model.safetensors.index.json', ...shards)).toEqual([
      'config.json',
      'model.safetensors',
    ])
    expect(pick('a/b', 'config.json', 'model.safetensors.index.json', ...shards, 'consolidated.safetensors')).toEqual([
      'config.json',
      'model.safetensors.index.json',
      ...shards,
    ])
    expect(pick('a/b', 'config.json', 'weights.safetensors')).toEqual(['config.json', 'weights.safetensors'])
    expect(pick('a/b', 'm-Q4_1.gguf', 'README.md')).toEqual(['m-Q4_1.gguf'])
    expect(pick('a/b:q8_0', 'm-Q4_1.gguf', 'm-Q8_0.gguf')).toEqual(['m-Q8_0.gguf'])
  })
  it('says what to write where it is not clear, and what cannot be read', () => {
    expect(() => pick('a/b', 'm-Q4_1.gguf', 'm-Q8_0.gguf')).toThrow(/2 GGUF files.*m-Q4_1\.gguf, m-Q8_0\.gguf.*a\/b:Q4_1/)
    expect(() => pick('a/b:Q5', 'm-Q4_1.gguf')).toThrow(/No GGUF file there has "Q5"/)
    expect(() => pick('a/b:Q5', 'config.json')).toThrow(FileError)
    expect(() => pick('a/b', 'config.json', 'pytorch_model.bin')).toThrow(/hold code/)
    expect(() => pick('a/b', 'adapter_config.json', 'adapter_model.safetensors')).toThrow(/adapter, not a model/)
    expect(() => pick('a/b', 'README.md')).toThrow(/no weights/)
  })
})

describe('parseListing', () => {
  it('any answer gives plain names or a FileError', () => {
    const sibling = fc.record(
      {
        rfilename: fc.oneof(fc.string(), fc.constantFrom('../../x', 'a/b', 'config.json', '__proto__')),
        size: fc.oneof(fc.integer(), fc.double(), fc.string()),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(
        fc.oneof(fc.jsonValue(), fc.record({ sha: fc.constant(COMMIT), siblings: fc.array(fc.oneof(sibling, fc.jsonValue())) })),
        (answer) => {
          try {
            for (const f of parseListing(answer, 'a/b').files) expect(f.name).toMatch(/^\w[\w.-]*$/)
          } catch (e) {
            if (!(e instanceof FileError)) throw e
          }
        },
      ),
    )
  })
})
