import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { besideFile } from './file_set.ts'
import { decodeText, duplicateKey, parseJson, readJsonObject } from './json.ts'
import { fromPath, readFolder, readPath } from './node_source.ts'
import { fromBlob, fromBytes, readAll, sliceSource } from './sources.ts'
import type { ByteSource } from './source.ts'

const dir = mkdtempSync(join(tmpdir(), 'etude-io-'))
afterAll(() => {
  rmSync(dir, { recursive: true })
})
const data = Uint8Array.from({ length: 100 }, (_, i) => i)
writeFileSync(join(dir, 'data.bin'), data)

describe('byte sources', () => {
  const kinds: [string, () => Promise<ByteSource>][] = [
    ['memory', async () => fromBytes('data.bin', data)],
    ['a Blob', async () => fromBlob(new File([data], 'data.bin'))],
    ['a path', () => fromPath(join(dir, 'data.bin'))],
    ['a slice', async () => sliceSource(fromBytes('data.bin', Uint8Array.from([9, ...data, 9])), 1, 100)],
  ]
  it.each(kinds)('%s: reads ranges inside and refuses the others', async (_, make) => {
    const source = await make()
    expect(source.name).toBe('data.bin')
    expect(source.size).toBe(100)
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: -5, max: 130 }), fc.integer({ min: -5, max: 130 }), async (offset, length) => {
        const inside = offset >= 0 && length >= 0 && offset + length <= 100
        if (inside) expect(await source.read(offset, length)).toEqual(data.slice(offset, offset + length))
        else await expect(source.read(offset, length)).rejects.toThrow(FileError)
      }),
      { numRuns: 60 },
    )
    await expect(source.read(0.5, 1)).rejects.toThrow(/data\.bin/)
    await expect(source.read(NaN, 1)).rejects.toThrow(FileError)
  })
  it('reads are copies', async () => {
    const source = fromBytes('x', data)
    ;(await source.read(0, 4)).fill(255)
    expect(data[0]).toBe(0)
  })
  it('refuses what is too long', async () => {
    await expect(readAll(fromBytes('big.json', data), 99)).rejects.toThrow(/big\.json/)
  })
  it('names the path in errors', async () => {
    await expect(fromPath(join(dir, 'none.bin'))).rejects.toThrow(/none\.bin.*no such file/)
    await expect(fromPath(dir)).rejects.toThrow(/folder, not a file/)
    await expect(readFolder(join(dir, 'nowhere'))).rejects.toThrow(/nowhere/)
  })
  it('reads a folder, or one file', async () => {
    expect([...(await readPath(dir)).keys()]).toEqual(['data.bin'])
    expect([...(await readPath(join(dir, 'data.bin'))).keys()]).toEqual(['data.bin'])
  })
  it('says so when a file shrinks after it was opened', async () => {
    const path = join(dir, 'data.bin')
    const source = await fromPath(path)
    writeFileSync(path, data.subarray(0, 10))
    await expect(source.read(0, 100)).rejects.toThrow(FileError)
    writeFileSync(path, data)
  })
})

describe('JSON files', () => {
  const json = (text: string) => readJsonObject(fromBytes('config.json', new TextEncoder().encode(text)))
  it('accepts byte-order marks', () => {
    expect(decodeText(Uint8Array.from([0xef, 0xbb, 0xbf, 0x61]), 'x')).toBe('a')
    expect(decodeText(Uint8Array.from([0xff, 0xfe, 0x61, 0]), 'x')).toBe('a')
    expect(decodeText(Uint8Array.from([0xfe, 0xff, 0, 0x61]), 'x')).toBe('a')
  })
  it('says what is wrong and where', async () => {
    await expect(json('{\n "a": 1,\n "b": x }')).rejects.toThrow(/config\.json.*(line 3, column 7|"b": x|Unexpected)/)
    await expect(json('')).rejects.toThrow(/empty/)
    await expect(json('[1]')).rejects.toThrow(/JSON object/)
    await expect(json('{"a":')).rejects.toThrow(FileError)
    expect(() => decodeText(Uint8Array.from([0x61, 0xff]), 'a.txt')).toThrow(/a\.txt.*UTF-8/)
  })
  it('finds duplicate keys at any depth and no others', () => {
    expect(duplicateKey('{"a":1,"b":{"a":2},"c":["a","a",{"d":"a","e":"a"}]}')).toBeNull()
    expect(duplicateKey('{"a":1,"\\u0061":2}')).toBe('a')
    expect(duplicateKey('[{"x":{"q":1,"y":[],"q":{}}}]')).toBe('q')
    expect(() => parseJson('{"__proto__":1,"__proto__":2}', 'x', true)).toThrow(/__proto__/)
    fc.assert(fc.property(fc.json(), (text) => duplicateKey(text) === null))
  })
})

describe('finding files', () => {
  const set = (...paths: string[]) => new Map(paths.map((p) => [p, fromBytes(p, data)]))
  it('takes the shallowest folder that has the file', () => {
    expect([...(besideFile(set('m/config.json', 'm/a.txt', 'm/old/config.json', 'b.txt'), 'config.json')?.keys() ?? [])]).toEqual([
      'config.json',
      'a.txt',
    ])
    expect(besideFile(set('a.txt'), 'config.json')).toBeNull()
    expect(() => besideFile(set('a/config.json', 'b/config.json'), 'config.json')).toThrow(/twice/)
  })
})
