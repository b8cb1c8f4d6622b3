import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { GgufBuilder, goldenBytes } from '../../test/files.ts'
import { describeShared } from '../../test/shared.ts'
import { readGguf } from './gguf.ts'
import { fromPath } from './node_source.ts'
import type { ByteSource } from './source.ts'
import { fromBytes } from './sources.ts'
import { storageSummary } from './storage.ts'

const read = (bytes: Uint8Array) => readGguf(fromBytes('x.gguf', bytes))
const gguf = (tensors: number | bigint, keys: number | bigint) => new GgufBuilder().start(tensors, keys)

async function onlyFileErrors(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run()
    return true
  } catch (e) {
    if (!(e instanceof FileError)) throw e
    expect(e.message).toContain('x.gguf')
    return false
  }
}

describe('readGguf', () => {
  it('reads every kind of value the reference implementation writes', async () => {
    const { version, metadata, tensors } = await read(goldenBytes('io/tiny.gguf'))
    expect(version).toBe(3)
    const { 't.f64': f64, ...rest } = Object.fromEntries(metadata)
    expect(f64).toBe(0.1)
    expect(rest).toEqual({
      'general.architecture': 'llama',
      't.u8': 200,
      't.i8': -100,
      't.u16': 60000,
      't.i16': -30000,
      't.u32': 4000000000,
      't.i32': -2000000000,
      't.u64': Number.MAX_SAFE_INTEGER,
      't.i64': -Number.MAX_SAFE_INTEGER,
      't.f32': 0.5,
      't.bool': true,
      't.string': 'naïve 日本 🎉',
      't.strings': ['a', '', 'Ġthe', '日本'],
      't.ints': Int32Array.from([1, -2, 3]),
      't.floats': Float32Array.from([0.5, -1.5]),
      't.bools': [true, false],
      't.nested': [Int32Array.from([1, 2]), Int32Array.from([3])],
    })
    expect([...tensors.values()].map(({ name, type, shape, bytes }) => [name, type, shape, bytes])).toEqual([
      ['f32', 'F32', [4, 64], 1024],
      ['f16', 'F16', [4, 64], 512],
      ['q8', 'Q8_0', [4, 64], 272],
      ['q4', 'Q4_1', [4, 64], 160],
      ['norm', 'F32', [64], 256],
    ])
  })

  it('reads headers longer than its first read', async () => {
    const b = gguf(1, 2).text('big').u32(9).u32(8).u64(150_000)
    for (let i = 0; i < 150_000; i++) b.text(`token ${i}`)
    b.text('general.alignment').u32(4).u32(64).tensor('w', [32, 2], 8, 64)
    const { metadata, tensors } = await read(b.end(64 + 68, 64))
    const big = metadata.get('big') as string[]
    expect([big.length, big[149_999]]).toEqual([150_000, 'token 149999'])
    expect((tensors.get('w')?.offset ?? 1) % 64).toBe(0)
  })

  it('keeps a U+FEFF at the start of a text', async () => {
    const b = gguf(0, 2).text('tokens').u32(9).u32(8).u64(2).text('\ufeff#').text('#').text('\ufeffkey').u32(8).text('\ufeff')
    expect([...(await read(b.end())).metadata]).toEqual([
      ['tokens', ['\ufeff#', '#']],
      ['\ufeffkey', '\ufeff'],
    ])
  })

  const bad: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(0), /needs 4 bytes/],
    ['other letters', new GgufBuilder().u32(1).u32(3).u64(0).u64(0).end(), /GGUF/],
    ['version 1', new GgufBuilder().start(0, 0, 1).end(), /version 1/],
    ['version 4', new GgufBuilder().start(0, 0, 4).end(), /version 4/],
    ['big-endian', new GgufBuilder().start(0, 0, 0x03000000).end(), /big-endian/],
    ['2^63 tensors', gguf(2n ** 63n, 0).end(), /9223372036854775808 tensors/],
    ['2^64 - 1 keys', gguf(0, 2n ** 64n - 1n).end(), /metadata entries/],
    [
      'a key of 2^63 bytes',
      gguf(0, 1)
        .u64(2n ** 63n)
        .end(64),
      /bytes of text/,
    ],
    ['a key past the end', gguf(0, 1).u64(1000).end(64), /bytes of text/],
    ['an empty key', gguf(0, 1).text('').u32(4).u32(0).end(), /key is empty/],
    [
      'a key that is no UTF-8',
      gguf(0, 1)
        .u64(2)
        .bytes(Uint8Array.from([0xff, 0xfe]))
        .u32(4)
        .u32(0)
        .end(),
      /UTF-8/,
    ],
    ['a key twice', gguf(0, 2).text('a').u32(4).u32(0).text('a').u32(4).u32(0).end(), /"a".*twice/],
    ['an unknown value type', gguf(0, 1).text('a').u32(13).end(), /value type 13/],
    ['an unknown array type', gguf(0, 1).text('a').u32(9).u32(99).u64(1).end(), /value type 99/],
    [
      'an array of 2^61 numbers',
      gguf(0, 1)
        .text('a')
        .u32(9)
        .u32(10)
        .u64(2n ** 61n)
        .end(),
      /array elements/,
    ],
    [
      '2^32 empty strings',
      gguf(0, 1)
        .text('a')
        .u32(9)
        .u32(8)
        .u64(2n ** 32n)
        .end(),
      /array elements/,
    ],
    ['a truth value of 2', gguf(0, 1).text('a').u32(7).bytes(Uint8Array.of(2)).end(), /truth value/],
    [
      'a number of 2^63',
      gguf(0, 1)
        .text('a')
        .u32(10)
        .u64(2n ** 63n)
        .end(),
      /beyond/,
    ],
    ['an alignment of 0', gguf(0, 1).text('general.alignment').u32(4).u32(0).end(), /general\.alignment is 0/],
    ['an alignment of 48', gguf(0, 1).text('general.alignment').u32(4).u32(48).end(), /general\.alignment is 48/],
    ['five dimensions', gguf(1, 0).tensor('w', [1, 1, 1, 1, 1], 0, 0).end(4), /5 dimensions/],
    [
      'a dimension of 2^63',
      gguf(1, 0)
        .tensor('w', [2n ** 63n], 0, 0)
        .end(4),
      /beyond/,
    ],
    [
      'a product that overflows',
      gguf(1, 0)
        .tensor('w', [2 ** 40, 2 ** 40], 0, 0)
        .end(4),
      /larger than 2\^53/,
    ],
    ['an unknown type', gguf(1, 0).tensor('w', [32], 77, 0).end(4), /type 77 is unknown/],
    ['a type that is not read', gguf(1, 0).tensor('w', [256], 23, 0).end(400), /IQ4_XS, is not supported/],
    ['rows that are no whole blocks', gguf(1, 0).tensor('w', [33, 32], 8, 0).end(4000), /whole blocks of 32/],
    ['an offset past the end', gguf(1, 0).tensor('w', [4], 0, 1024).end(16), /end at byte/],
    [
      'an offset of 2^63',
      gguf(1, 0)
        .tensor('w', [4], 0, 2n ** 63n)
        .end(16),
      /beyond/,
    ],
    ['an offset that is not aligned', gguf(1, 0).tensor('w', [4], 0, 8).end(64), /multiple of 32/],
    ['an overlap', gguf(2, 0).tensor('a', [16], 0, 0).tensor('b', [8], 0, 32).end(64), /overlap/],
    ['a tensor twice', gguf(2, 0).tensor('a', [8], 0, 0).tensor('a', [8], 0, 32).end(64), /twice/],
  ]
  it.each(bad)('refuses %s', async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toThrow(message)
    await expect(read(bytes)).rejects.toThrow(FileError)
  })

  it('refuses arrays nested without end', async () => {
    const b = gguf(0, 1).text('a').u32(9)
    for (let i = 0; i < 1000; i++) b.u32(9).u64(1)
    await expect(read(b.end())).rejects.toThrow(/nested deeper/)
  })

  it('every file cut short is refused, every changed byte gives a file or a FileError', async () => {
    const bytes = goldenBytes('io/tiny.gguf')
    for (let n = 0; n < bytes.length - 32; n += 11) expect(await onlyFileErrors(() => read(bytes.subarray(0, n)))).toBe(false)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(1300), fc.nat(255)), { minLength: 1, maxLength: 3 }), async (changes) => {
        const changed = bytes.slice()
        for (const [at, to] of changes) changed[at] = to
        await onlyFileErrors(() => read(changed))
      }),
      { numRuns: 500 },
    )
  })

  it('any bytes after the magic number give a file or a FileError', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(3), fc.nat(3), fc.uint8Array({ maxLength: 400 }), async (tensors, keys, tail) => {
        await onlyFileErrors(() => read(gguf(tensors, keys).bytes(tail).end()))
      }),
      { numRuns: 500 },
    )
  })
})

describeShared('SmolLM2-135M-Instruct', ['models', 'smollm2-135m-instruct', 'SmolLM2-135M-Instruct.Q4_1.gguf'], (path) => {
  it('is read without its weights, quickly', async () => {
    let bytes = 0
    const file = await fromPath(path)
    const counted: ByteSource = { ...file, read: (o, n) => ((bytes += n), file.read(o, n)) }
    const start = performance.now()
    const { metadata, tensors } = await readGguf(counted)
    expect(performance.now() - start).toBeLessThan(3000)
    expect(bytes).toBeLessThan(8 * 2 ** 20)
    expect(tensors.size).toBe(272)
    expect((metadata.get('tokenizer.ggml.tokens') as string[]).length).toBe(49152)
    expect(metadata.get('llama.rope.freq_base')).toBe(100000)
    expect(tensors.get('blk.0.attn_k.weight')).toMatchObject({ type: 'Q4_1', shape: [192, 576], bytes: 69120, offset: 33530176 })
    expect(storageSummary(tensors.values())).toBe('Q4_1 + Q8_0 + F32')
    expect([...tensors.values()].reduce((n, t) => n + t.shape.reduce((a, b) => a * b, 1), 0)).toBe(134_515_008)
  })
})
