import fc from 'fast-check'
import { zipSync, type Zippable } from 'fflate'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import type { FileSet } from './source.ts'
import { fromBlob, fromBytes, readAll } from './sources.ts'
import { crc32, expandZips, unzipFiles, zipFiles } from './zip.ts'

const text = (s: string) => new TextEncoder().encode(s)
const source = (bytes: Uint8Array) => fromBytes('x.zip', bytes)
const contents = async (files: FileSet) => {
  const out: Record<string, string> = {}
  for (const [name, s] of files) out[name] = new TextDecoder().decode(await readAll(s, 1e9))
  return out
}
const unzip = async (bytes: Uint8Array, limits?: { entries: number; bytes: number }) => contents(await unzipFiles(source(bytes), limits))
/** Changes a u16 or u32 of the first central directory entry. */
function patchCentral(zip: Uint8Array, at: number, value: number, size: 2 | 4): Uint8Array {
  const out = zip.slice()
  const v = new DataView(out.buffer)
  let i = 0
  while (v.getUint32(i, true) !== 0x02014b50) i++
  if (size === 2) v.setUint16(i + at, value, true)
  else v.setUint32(i + at, value, true)
  return out
}

describe('unzipFiles', () => {
  const files: Zippable = {
    'a.txt': text('hello '.repeat(100)),
    'd/b.json': text('{}'),
    'd/': new Uint8Array(0),
    '__MACOSX/a.txt': text('x'),
    'd/.DS_Store': text('x'),
  }
  it('reads deflated and stored files, without system leftovers', async () => {
    const want = { 'a.txt': 'hello '.repeat(100), 'd/b.json': '{}' }
    expect(await unzip(zipSync(files))).toEqual(want)
    expect(await unzip(zipSync(files, { level: 0 }))).toEqual(want)
  })
  it('knows the usual checksum', () => {
    expect(crc32(text('123456789'))).toBe(0xcbf43926)
  })
  it.each(['../x', 'a/../../x', '/etc/x', 'C:\\x', '..\\x', 'a\0b'])('refuses the name %j', async (name) => {
    await expect(unzip(zipSync({ [name]: text('x') }))).rejects.toThrow(FileError)
  })
  it('refuses more files or bytes than the limits', async () => {
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`f${i}`, text('x')]))
    await expect(unzip(zipSync(many), { entries: 19, bytes: 100 })).rejects.toThrow(/20 files/)
    await expect(unzip(zipSync(many), { entries: 20, bytes: 19 })).rejects.toThrow(/more than 19 bytes/)
    await expect(unzip(zipSync({ bomb: new Uint8Array(2 ** 22) }), { entries: 9, bytes: 2 ** 20 })).rejects.toThrow(/more than 1048576/)
  })
  it('does not believe sizes', async () => {
    const zip = zipSync({ a: new Uint8Array(100_000).fill(7) })
    await expect(unzip(patchCentral(zip, 24, 50, 4))).rejects.toThrow(FileError)
    await expect(unzip(patchCentral(zip, 24, 900_000_000, 4))).rejects.toThrow(/claims to unpack/)
    await expect(unzip(patchCentral(zip, 16, 1, 4))).rejects.toThrow(/checksum/)
    await expect(unzip(patchCentral(zip, 42, 1e6, 4))).rejects.toThrow(FileError)
    await expect(unzip(patchCentral(zip, 8, 1, 2))).rejects.toThrow(/encrypted/)
    await expect(unzip(patchCentral(zip, 10, 14, 2))).rejects.toThrow(/method 14/)
  })
  it('refuses what is no zip, or cut short', async () => {
    const zip = zipSync(files)
    await expect(unzip(new Uint8Array(0))).rejects.toThrow(/x\.zip.*no zip/)
    for (let n = 0; n < zip.length; n += 5) await expect(unzip(zip.subarray(0, n))).rejects.toThrow(FileError)
  })
  it('any changed bytes give files or a FileError', async () => {
    const zip = zipSync(files)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(zip.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), async (changes) => {
        const changed = zip.slice()
        for (const [at, to] of changes) changed[at] = to
        try {
          await unzip(changed)
        } catch (e) {
          if (!(e instanceof FileError)) throw e
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('zipFiles', () => {
  it('what is zipped is unzipped', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.stringMatching(/^[a-z]{1,8}(\/[a-z.é]{1,5}x)?$/), fc.string(), { maxKeys: 5 }), async (files) => {
        const blob = await zipFiles(Object.entries(files).map(([name, data]) => ({ name, data: new Blob([data]) })))
        expect(await contents(await unzipFiles(fromBlob(blob, 'y.zip')))).toEqual(
          Object.fromEntries(Object.entries(files).map(([k, v]) => [k, v.toWellFormed()])),
        )
      }),
      { numRuns: 30 },
    )
  })
  it('reads zip64 sizes', async () => {
    const blob = await zipFiles([{ name: 'a', data: 'abc' }])
    const plain = new Uint8Array(await blob.arrayBuffer())
    // The same entry with its sizes and offset moved to a zip64 field, and a zip64 end record.
    const v = new DataView(plain.buffer)
    let c = 0
    while (v.getUint32(c, true) !== 0x02014b50) c++
    const central = plain.slice(c, c + 46 + 1)
    const w = new DataView(central.buffer)
    for (const at of [20, 24, 42]) w.setUint32(at, 0xffffffff, true)
    w.setUint16(30, 28, true)
    w.setUint16(32, 0, true)
    const extra = new DataView(new ArrayBuffer(28))
    extra.setUint16(0, 1, true)
    extra.setUint16(2, 24, true)
    extra.setBigUint64(4, 3n, true)
    extra.setBigUint64(12, 3n, true)
    const size = central.length + 28
    const end64 = new DataView(new ArrayBuffer(56 + 20 + 22))
    end64.setUint32(0, 0x06064b50, true)
    end64.setBigUint64(32, 1n, true)
    end64.setBigUint64(40, BigInt(size), true)
    end64.setBigUint64(48, BigInt(c), true)
    end64.setUint32(56, 0x07064b50, true)
    end64.setBigUint64(64, BigInt(c + size), true)
    end64.setUint32(76, 0x06054b50, true)
    end64.setUint16(86, 0xffff, true)
    end64.setUint32(88, 0xffffffff, true)
    end64.setUint32(92, 0xffffffff, true)
    const zip = new Blob([plain.slice(0, c), central, extra, end64])
    expect(await contents(await unzipFiles(fromBlob(zip, 'z.zip')))).toEqual({ a: 'abc' })
  })
})

describe('expandZips', () => {
  it('puts a zip’s files in its place', async () => {
    const set = new Map([
      ['run.zip', source(zipSync({ 'a.txt': text('1') }))],
      ['b.txt', fromBytes('b.txt', text('2'))],
    ])
    expect(await contents(await expandZips(set))).toEqual({ 'b.txt': '2', 'run/a.txt': '1' })
  })
})
