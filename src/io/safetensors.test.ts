import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { goldenBytes, safetensorsBytes } from '../../test/files.ts'
import { describeShared } from '../../test/shared.ts'
import { readPath } from './node_source.ts'
import { readSafetensors, readSafetensorsSet } from './safetensors.ts'
import { layoutSafetensors, safetensorsBlob, streamSafetensors, writeSafetensors, type TensorData } from './safetensors_writer.ts'
import type { StorageType } from './source.ts'
import { fromBlob, fromBytes } from './sources.ts'
import { BLOCKS } from './storage.ts'

const read = (bytes: Uint8Array) => readSafetensors(fromBytes('x.safetensors', bytes))
const entry = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets })
const f32 = (...values: number[]) => Float32Array.from(values)

/** Reads, or fails with a FileError that names the file: nothing else may come out of a parser. */
async function onlyFileErrors(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run()
    return true
  } catch (e) {
    expect(e).toBeInstanceOf(FileError)
    expect((e as Error).message).toContain('x.safetensors')
    return false
  }
}

describe('readSafetensors', () => {
  it('reads a file of the reference implementation, and writes the same bytes', async () => {
    const bytes = goldenBytes('io/tiny.safetensors')
    const { tensors, metadata } = await read(bytes)
    expect(Object.fromEntries(metadata)).toEqual({ format: 'pt' })
    expect([...tensors.keys()].sort()).toEqual(['a.weight', 'b.weight', 'brain', 'empty', 'flag', 'half', 'ids', 'scalar', 'é'])
    expect(tensors.get('b.weight')).toMatchObject({ type: 'F32', shape: [3, 4], bytes: 48 })
    expect(tensors.get('empty')).toMatchObject({ shape: [0, 4], bytes: 0 })
    const data: TensorData[] = []
    for (const t of tensors.values())
      data.push({ name: t.name, type: t.type, shape: t.shape, data: await t.source.read(t.offset, t.bytes) })
    const scalar = data.find((t) => t.name === 'scalar')
    expect(new DataView((scalar?.data as Uint8Array).buffer).getFloat32(0, true)).toBe(2.5)
    expect(writeSafetensors(data.reverse())).toEqual(bytes)
  })

  const two = (a: unknown, b: unknown) => ({ a, b })
  const cases: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(0), /0 bytes/],
    ['seven bytes', new Uint8Array(7), /7 bytes/],
    ['a header beyond the file', safetensorsBytes('{}', 0, 3n), /claims 3 bytes/],
    ['a header of 2^63', safetensorsBytes('{}', 0, 2n ** 63n), /9223372036854775808/],
    ['a header of 2^64 - 1', safetensorsBytes('{}', 0, 2n ** 64n - 1n), /claims/],
    ['no JSON', safetensorsBytes('{"a":', 0), /JSON/],
    ['a list', safetensorsBytes('[]', 0), /begin with/],
    ['padding first', safetensorsBytes('  {}', 0), /begin with/],
    ['bytes that are no UTF-8', safetensorsBytes('{"ÿ', 0).map((b) => (b === 0xc3 ? 0xff : b)), /UTF-8/],
    ['an entry that is no object', safetensorsBytes({ a: 1 }, 0), /tensor "a".*not an object/],
    ['an unknown dtype', safetensorsBytes({ a: entry('F8_E4M3', [1], [0, 1]) }, 1), /Unknown dtype "F8_E4M3"/],
    ['an inherited dtype', safetensorsBytes({ a: entry('constructor', [1], [0, 4]) }, 4), /Unknown dtype/],
    ['a block type', safetensorsBytes({ a: entry('Q4_0', [32], [0, 18]) }, 18), /Unknown dtype/],
    ['no dtype', safetensorsBytes({ a: { shape: [1], data_offsets: [0, 4] } }, 4), /Unknown dtype/],
    ['a negative size', safetensorsBytes({ a: entry('F32', [-1, -4], [0, 16]) }, 16), /shape/],
    ['a fraction', safetensorsBytes({ a: entry('F32', [0.5, 2], [0, 4]) }, 4), /shape/],
    ['a text as size', safetensorsBytes({ a: entry('F32', ['1'], [0, 4]) }, 4), /shape/],
    ['sizes whose product overflows', safetensorsBytes({ a: entry('F32', [2 ** 40, 2 ** 40], [0, 4]) }, 4), /2\^53/],
    ['a shape of 2^63', safetensorsBytes('{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}', 4), /2\^53/],
    ['offsets of 2^63', safetensorsBytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775808]}}', 4), /data_offsets/],
    ['negative offsets', safetensorsBytes({ a: entry('F32', [1], [-4, 0]) }, 4), /data_offsets/],
    ['falling offsets', safetensorsBytes({ a: entry('F32', [1], [4, 0]) }, 4), /data_offsets/],
    ['three offsets', safetensorsBytes({ a: entry('F32', [1], [0, 4, 8]) }, 8), /data_offsets/],
    ['offsets past the end', safetensorsBytes({ a: entry('F32', [2], [0, 8]) }, 4), /end at byte 8.*have 4/],
    ['a shape that does not fit', safetensorsBytes({ a: entry('F32', [3], [0, 8]) }, 8), /takes 12 bytes.*give 8/],
    ['an overlap', safetensorsBytes(two(entry('F32', [2], [0, 8]), entry('F32', [2], [4, 12])), 12), /overlaps/],
    ['the same bytes twice', safetensorsBytes(two(entry('F32', [2], [0, 8]), entry('F32', [2], [0, 8])), 8), /overlaps/],
    ['a gap', safetensorsBytes(two(entry('F32', [1], [0, 4]), entry('F32', [1], [8, 12])), 12), /gap/],
    ['a gap at the start', safetensorsBytes({ a: entry('F32', [1], [4, 8]) }, 8), /gap/],
    ['bytes left over', safetensorsBytes({ a: entry('F32', [1], [0, 4]) }, 9), /5 bytes after the last/],
    [
      'a name twice',
      safetensorsBytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4),
      /"a" is there twice/,
    ],
    ['a field twice', safetensorsBytes('{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', 4), /"shape" is there twice/],
    ['metadata that is no object', safetensorsBytes({ __metadata__: 3 }), /__metadata__/],
    ['metadata that is no text', safetensorsBytes({ __metadata__: { a: 1 } }), /"a" is not text/],
  ]
  it.each(cases)('refuses %s', async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toThrow(message)
    await expect(read(bytes)).rejects.toThrow(FileError)
  })

  it('takes names that objects inherit as plain names', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']
    const bytes = writeSafetensors(names.map((name) => ({ name, type: 'F32', shape: [1], data: f32(1) })))
    const { tensors } = await read(bytes)
    expect([...tensors.keys()].sort()).toEqual([...names].sort())
    expect(tensors.get('__proto__')?.bytes).toBe(4)
    expect((await read(safetensorsBytes({}))).tensors.get('constructor')).toBeUndefined()
  })

  it('every file cut short is refused, every changed byte gives a file or a FileError', async () => {
    const bytes = goldenBytes('io/tiny.safetensors')
    for (let n = 0; n < bytes.length; n += 7) expect(await onlyFileErrors(() => read(bytes.subarray(0, n)))).toBe(false)
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(255), async (at, to) => {
        const changed = bytes.slice()
        changed[at] = to
        await onlyFileErrors(() => read(changed))
      }),
      { numRuns: 300 },
    )
  })

  it('any JSON as header gives a file or a FileError', async () => {
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom('F32', 'I64', '__proto__'), fc.array(fc.oneof(fc.integer(), fc.double())))
    const header = fc.dictionary(
      fc.string(),
      fc.oneof(value, fc.record({ dtype: value, shape: value, data_offsets: value }, { requiredKeys: [] })),
    )
    await fc.assert(
      fc.asyncProperty(header, fc.nat(64), async (h, data) => {
        await onlyFileErrors(() => read(safetensorsBytes(h, data)))
      }),
      { numRuns: 300 },
    )
  })
})

describe('writeSafetensors', () => {
  const types: StorageType[] = ['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL']
  const tensor = fc
    .record({
      name: fc.string({ unit: 'binary', minLength: 1 }).filter((s) => s.isWellFormed()),
      type: fc.constantFrom(...types),
      shape: fc.array(fc.nat(4), { maxLength: 3 }),
      seed: fc.nat(255),
    })
    .map(({ seed, ...t }): TensorData => ({
      ...t,
      data: new Uint8Array(t.shape.reduce((a, b) => a * b, 1) * BLOCKS[t.type][1]).fill(seed),
    }))
  it('what is written is read back, whole or streamed, in any order of input', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 8 }),
        fc.dictionary(fc.string(), fc.string()),
        async (list, metadata) => {
          const bytes = writeSafetensors(list, metadata)
          expect(writeSafetensors(list.toReversed(), metadata)).toEqual(bytes)
          expect(new DataView(bytes.buffer).getBigUint64(0, true) % 8n).toBe(0n)
          const back = await read(bytes)
          expect(new Map(Object.entries(metadata))).toEqual(back.metadata)
          expect(back.tensors.size).toBe(list.length)
          for (const t of list) {
            const got = back.tensors.get(t.name)
            expect(got).toMatchObject({ type: t.type, shape: t.shape })
            if (got) expect(await got.source.read(got.offset, got.bytes)).toEqual(t.data)
          }
          const lazy = list.map(({ data, ...t }) => ({ ...t, load: async () => data }))
          expect(layoutSafetensors(lazy, metadata).size).toBe(bytes.length)
          const blob = await safetensorsBlob(lazy, metadata)
          expect(new Uint8Array(await blob.arrayBuffer())).toEqual(bytes)
        },
      ),
      { numRuns: 60 },
    )
  })
  it('refuses what would be no safetensors file', async () => {
    const t: TensorData = { name: 'a', type: 'F32', shape: [2], data: f32(1, 2) }
    expect(() => writeSafetensors([t, t])).toThrow(/Two tensors/)
    expect(() => writeSafetensors([{ ...t, name: '__metadata__' }])).toThrow(/reserved/)
    expect(() => writeSafetensors([{ ...t, type: 'Q4_0' }])).toThrow(/cannot hold Q4_0/)
    expect(() => writeSafetensors([{ ...t, shape: [3] }])).toThrow(/takes 12 bytes, its data have 8/)
    expect(() => writeSafetensors([{ ...t, shape: [-2] }])).toThrow(/shape/)
    const stream = streamSafetensors([{ ...t, load: () => f32(1) }])
    await stream.next()
    await expect(stream.next()).rejects.toThrow(/8 bytes/)
  })
})

describe('readSafetensorsSet', () => {
  const file = (name: string, ...tensors: string[]): [string, ReturnType<typeof fromBytes>] => [
    name,
    fromBytes(name, writeSafetensors(tensors.map((t) => ({ name: t, type: 'F32', shape: [1], data: f32(1) })))),
  ]
  const index = (map: object): [string, ReturnType<typeof fromBytes>] => [
    'm/model.safetensors.index.json',
    fromBytes('model.safetensors.index.json', new TextEncoder().encode(JSON.stringify({ weight_map: map }))),
  ]
  const names = async (...files: [string, ReturnType<typeof fromBytes>][]) => [...(await readSafetensorsSet(new Map(files))).tensors.keys()]
  const [p1, p2] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
  it('reads one file, shards, or the only file', async () => {
    expect(await names(file('m/model.safetensors', 'a'), file('m/other.safetensors', 'b'))).toEqual(['a'])
    expect(await names(index({ a: p1, b: p2 }), file(`m/${p1}`, 'a'), file(`m/${p2}`, 'b'))).toEqual(['a', 'b'])
    expect(await names(file('tuned.safetensors', 'x'))).toEqual(['x'])
  })
  it('says what is missing or mixed up', async () => {
    await expect(names()).rejects.toThrow(/no \.safetensors/)
    await expect(names(file('a.safetensors'), file('b.safetensors'))).rejects.toThrow(/several/)
    await expect(names(file(`m/${p1}`, 'a'), file(`m/${p2}`, 'b'))).rejects.toThrow(/index\.json is missing/)
    await expect(names(index({ a: p1, b: p2 }), file(`m/${p1}`, 'a'))).rejects.toThrow(/1 of 2 parts are missing: model-00002/)
    await expect(names(index({ a: p1, b: p2 }), file(`m/${p1}`, 'a'), file(`m/${p2}`, 'c'))).rejects.toThrow(/"b" is not in it/)
    await expect(names(index({ a: p1, b: p2 }), file(`m/${p1}`, 'a', 'b'), file(`m/${p2}`, 'b'))).rejects.toThrow(/is in/)
    await expect(names(index({ a: '../x.safetensors' }))).rejects.toThrow(/no safetensors file name/)
    await expect(names(index({ a: 'model.bin' }))).rejects.toThrow(/no safetensors file name/)
    await expect(names(index({}))).rejects.toThrow(/no weight_map/)
  })
})

describeShared('stories260K', ['models', 'stories260K'], (path) => {
  it('has 260,032 parameters', async () => {
    const { tensors } = await readSafetensorsSet(await readPath(path))
    expect(tensors.get('model.embed_tokens.weight')).toMatchObject({ type: 'F32', shape: [512, 64] })
    expect([...tensors.values()].reduce((n, t) => n + t.bytes / 4, 0)).toBe(260_032)
  })
})

describe('fromBlob', () => {
  it('serves a parser', async () => {
    const { tensors } = await readSafetensors(fromBlob(new Blob([goldenBytes('io/tiny.safetensors')]), 'tiny.safetensors'))
    expect(tensors.size).toBe(9)
  })
})
