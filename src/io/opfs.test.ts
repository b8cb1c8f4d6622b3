import fc from 'fast-check'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { FileError } from '../errors.ts'
import { fakeOpfs, type FakeDisk } from '../../test/fake_opfs.ts'
import { checkKey, keyPart, memoryStore, TEMPORARY, type BlobStore } from './blob_store.ts'
import { openOpfs, opfsStore, removeTemporaries } from './opfs.ts'
import { readAll } from './sources.ts'

const bytes = (s: string) => new TextEncoder().encode(s)
const text = async (store: BlobStore, key: string) => {
  const source = await store.read(key)
  return source && new TextDecoder().decode(await readAll(source, 1e9))
}
async function* broken() {
  yield bytes('half of ')
  throw new Error('the power went')
}

const kinds: [string, (disk: FakeDisk) => BlobStore, FakeDisk][] = [
  ['memory', (disk) => memoryStore(disk.quota), { quota: 1000, sync: true, move: true }],
  ['OPFS in a worker', (disk) => opfsStore(fakeOpfs(disk)), { quota: 1000, sync: true, move: true }],
  ['OPFS in a page', (disk) => opfsStore(fakeOpfs(disk)), { quota: 1000, sync: false, move: true }],
  ['OPFS without move', (disk) => opfsStore(fakeOpfs(disk)), { quota: 1000, sync: true, move: false }],
]

describe.each(kinds)('a store in %s', (_, make, disk) => {
  let store: BlobStore
  beforeEach(() => {
    store = make({ ...disk })
  })
  it('writes, reads, lists and removes', async () => {
    expect(await store.read('a')).toBeNull()
    await store.write('runs/1/model.bin', bytes('one'))
    await store.write('runs/10/x', new Blob(['ten']))
    await store.write('b', (async function* () { yield bytes('st'); yield bytes('ream') })()) // prettier-ignore
    expect(await text(store, 'runs/1/model.bin')).toBe('one')
    expect(await text(store, 'b')).toBe('stream')
    expect(await store.list('')).toEqual([
      { key: 'b', size: 6 },
      { key: 'runs/1/model.bin', size: 3 },
      { key: 'runs/10/x', size: 3 },
    ])
    expect((await store.list('runs/1')).length).toBe(2)
    expect((await store.list('runs/1/')).map((f) => f.key)).toEqual(['runs/1/model.bin'])
    await store.remove('b')
    await store.remove('b')
    await store.remove('no/such/folder')
    expect(await store.read('b')).toBeNull()
  })
  it('replaces whole or not at all', async () => {
    await store.write('d/a', bytes('a long old text'))
    await store.write('d/a', bytes('new'))
    expect(await text(store, 'd/a')).toBe('new')
    await expect(store.write('d/a', broken())).rejects.toThrow(/power/)
    await expect(store.write('d/fresh', broken())).rejects.toThrow(/power/)
    expect(await text(store, 'd/a')).toBe('new')
    expect(await store.list('')).toEqual([{ key: 'd/a', size: 3 }])
  })
  it('a full disk keeps the old file and says what to do', async () => {
    await store.write('a', bytes('old'))
    await expect(store.write('a', new Uint8Array(2000))).rejects.toThrow(/a: There is no room.*Delete old runs/)
    await expect(store.append('a', new Uint8Array(2000))).rejects.toThrow(FileError)
    expect(await text(store, 'a')).toBe('old')
    await store.write('a', bytes('still works'))
  })
  it('appends and moves', async () => {
    await store.append('x.part', bytes('ab'))
    await store.append('x.part', bytes('cd'))
    await store.write('y/x', bytes('old'))
    await store.move('x.part', 'y/x')
    expect(await text(store, 'y/x')).toBe('abcd')
    expect(await store.read('x.part')).toBeNull()
    await expect(store.move('gone', 'z')).rejects.toThrow(/gone.*no such/i)
  })
  it('refuses keys that lead elsewhere', async () => {
    for (const key of ['', '/a', '../a', 'a/../b', 'a//b', '.hidden', 'a\\b', 'a b', `x${TEMPORARY}1`, 'é', 'a'.repeat(300)]) {
      await expect(store.write(key, bytes('x')), key).rejects.toThrow(FileError)
      await expect(store.read(key), key).rejects.toThrow(FileError)
    }
  })
  it('does what a map would do', async () => {
    const key = fc.constantFrom('a', 'b', 'd/a', 'd/e/b')
    const data = fc.uint8Array({ maxLength: 20 }).map((u) => Uint8Array.from(u))
    const command = fc.oneof(
      fc.record({ do: fc.constant('write' as const), key, data }),
      fc.record({ do: fc.constant('append' as const), key, data }),
      fc.record({ do: fc.constant('remove' as const), key }),
      fc.record({ do: fc.constant('move' as const), key, to: key }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(command), async (commands) => {
        const s = make({ ...disk })
        const model = new Map<string, number[]>()
        for (const c of commands) {
          if (c.do === 'write') await s.write(c.key, c.data)
          else if (c.do === 'append') await s.append(c.key, c.data)
          else if (c.do === 'remove') await s.remove(c.key)
          else if (model.has(c.key) && c.key !== c.to) await s.move(c.key, c.to)
          if (c.do === 'write') model.set(c.key, [...c.data])
          else if (c.do === 'append') model.set(c.key, [...(model.get(c.key) ?? []), ...c.data])
          else if (c.do === 'remove') model.delete(c.key)
          else if (model.has(c.key) && c.key !== c.to) {
            model.set(c.to, model.get(c.key) ?? [])
            model.delete(c.key)
          }
        }
        expect(await s.list('')).toEqual([...model].map(([k, v]) => ({ key: k, size: v.length })).sort((a, b) => (a.key < b.key ? -1 : 1)))
        for (const [k, v] of model) expect([...(await readAll((await s.read(k))!, 1e6))]).toEqual(v)
      }),
      { numRuns: 50 },
    )
  })
})

describe('openOpfs', () => {
  it('says so where there is none', async () => {
    vi.stubGlobal('navigator', { storage: { getDirectory: () => Promise.reject(new Error('private window')) } })
    await expect(openOpfs()).rejects.toThrow(/no file storage \(private window\).*normal window/)
    vi.unstubAllGlobals()
  })
  it('removes what a crash left behind, and nothing else', async () => {
    const root = fakeOpfs({ quota: 1e6, sync: true, move: true })
    const dir = await root.getDirectoryHandle('runs', { create: true })
    await dir.getFileHandle(`a${TEMPORARY}1`, { create: true })
    await dir.getFileHandle('a', { create: true })
    expect(await opfsStore(root).list('')).toEqual([{ key: 'runs/a', size: 0 }])
    await removeTemporaries(root)
    const names: string[] = []
    for await (const [name] of dir.entries()) names.push(name)
    expect(names).toEqual(['a'])
  })
  it('a file that another tab writes is named', async () => {
    const root = fakeOpfs({ quota: 1e6, sync: true, move: true })
    const handle = (await root.getFileHandle('a', { create: true })) as unknown as {
      createSyncAccessHandle: () => Promise<{ close: () => void }>
    }
    const lock = await handle.createSyncAccessHandle()
    await expect(opfsStore(root).append('a', bytes('x'))).rejects.toThrow(/a: The stored file is in use.*tab/)
    lock.close()
  })
})

describe('keyPart', () => {
  it('makes a key of any text, a different one for each', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60, unit: 'grapheme' }), (s) => s.length > 60 || checkKey(keyPart(s.slice(0, 15))).length === 1),
    )
    fc.assert(fc.property(fc.string({ maxLength: 15 }), fc.string({ maxLength: 15 }), (a, b) => a === b || keyPart(a) !== keyPart(b)))
  })
})
