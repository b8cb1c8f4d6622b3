import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { describeShared } from '../../test/shared.ts'
import { fromFloat32, toFloat32 } from './dequantize.ts'
import { f16Table, toF16 } from './float16.ts'
import { readGguf } from './gguf.ts'
import { fromPath } from './node_source.ts'
import { gatherRows, packF16, repack, ropeRowOrder, type PackedQ4, type PackedQ8, type PackableType } from './repack.ts'
import { BLOCKS } from './storage.ts'

/** What the GPU will read, by the layout's definition. */
function unpack(p: PackedQ4 | PackedQ8, count: number): Float32Array {
  const half = f16Table()
  return Float32Array.from({ length: count }, (_, k) => {
    if (p.format === 'q8') return p.scales[k >> 5] * (((p.quants[k >> 2] >>> (8 * (k & 3))) << 24) >> 24)
    const q = (p.quants[k >> 3] >>> (4 * (k & 7))) & 15
    const s = p.scales[k >> 5]
    return Math.fround(half[s & 0xffff] * q) + half[s >>> 16]
  })
}

/** Random blocks with finite scales. */
const blocks = (type: PackableType) =>
  fc
    .array(
      fc.tuple(
        fc.float({ min: -4, max: 4, noNaN: true }),
        fc.float({ min: -4, max: 4, noNaN: true }),
        fc.uint8Array({ minLength: 34, maxLength: 34 }),
      ),
      { minLength: 1, maxLength: 5 },
    )
    .map((list) => {
      const size = BLOCKS[type][1]
      const out = new Uint8Array(list.length * size)
      list.forEach(([d, m, body], i) => {
        out.set(body.subarray(0, size), i * size)
        const view = new DataView(out.buffer, i * size)
        view.setUint16(0, toF16(d), true)
        if (type === 'Q4_1') view.setUint16(2, toF16(m), true)
      })
      return out
    })

describe('repack', () => {
  it.each(['Q4_1', 'Q8_0'] as const)('%s keeps every weight exactly', (type) => {
    fc.assert(
      fc.property(blocks(type), (bytes) => {
        const count = (bytes.length / BLOCKS[type][1]) * 32
        expect(unpack(repack(type, bytes, count), count)).toEqual(toFloat32(type, bytes, count))
      }),
    )
  })
  it('Q4_0 keeps every weight to one float32 rounding of d·q - 8d', () => {
    fc.assert(
      fc.property(blocks('Q4_0'), (bytes) => {
        const count = (bytes.length / 18) * 32
        const want = toFloat32('Q4_0', bytes, count)
        const got = unpack(repack('Q4_0', bytes, count), count)
        // d has 11 significant bits and q and 8 four: every product and sum is exact in float32.
        for (let i = 0; i < count; i++) expect(got[i] + 0).toBe(want[i] + 0)
      }),
    )
  })
  it('takes 4 and 8 bits a weight and one scale a block', () => {
    const q4 = repack('Q4_1', new Uint8Array(20 * 8), 256)
    expect([q4.format, q4.quants.byteLength, q4.scales.byteLength]).toEqual(['q4', 128, 32])
    const q8 = repack('Q8_0', new Uint8Array(34 * 8), 256)
    expect([q8.format, q8.quants.byteLength, q8.scales.byteLength]).toEqual(['q8', 256, 32])
  })
  it('refuses bytes that do not fit, and scales that are none', () => {
    expect(() => repack('Q8_0', new Uint8Array(33), 32)).toThrow(FileError)
    expect(() => repack('Q4_0', new Uint8Array(18), 16)).toThrow(FileError)
    const huge = new Uint8Array(18)
    new DataView(huge.buffer).setUint16(0, toF16(60000), true)
    expect(() => repack('Q4_0', huge, 32)).toThrow(/scale of block 0/)
  })
})

describe('packF16', () => {
  it('puts two a word, low half first', () => {
    expect([...packF16(Float32Array.from([1, -2, 0.5]))]).toEqual([0xc0003c00, 0x3800])
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true })), (values) => {
        const x = Float32Array.from(values)
        expect(new Uint8Array(packF16(x).buffer, 0, 2 * x.length)).toEqual(fromFloat32('F16', x))
      }),
    )
  })
})

describe('row order', () => {
  it('undoes reshape(n_head, 2, hd/2).swapaxes(1, 2)', () => {
    expect([...ropeRowOrder(1, 4)]).toEqual([0, 2, 1, 3])
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 3 }),
        (heads, half, rowBytes) => {
          const hd = 2 * half
          const hf = Uint8Array.from({ length: heads * hd * rowBytes }, (_, i) => i % 251)
          const gguf = new Uint8Array(hf.length)
          for (let h = 0; h < heads; h++)
            for (let j = 0; j < half; j++)
              for (let s = 0; s < 2; s++) {
                const [to, from] = [h * hd + j * 2 + s, h * hd + s * half + j]
                gguf.set(hf.subarray(from * rowBytes, (from + 1) * rowBytes), to * rowBytes)
              }
          expect(gatherRows(gguf, rowBytes, ropeRowOrder(heads, hd))).toEqual(hf)
        },
      ),
    )
  })
  it('refuses rows that are not there', () => {
    expect(() => gatherRows(new Uint8Array(8), 4, [2])).toThrow(/Row 2/)
    expect(() => gatherRows(new Uint8Array(7), 4, [0])).toThrow(/whole rows/)
  })
})

describeShared('SmolLM2-135M-Instruct', ['models', 'smollm2-135m-instruct', 'SmolLM2-135M-Instruct.Q4_1.gguf'], (path) => {
  it.each(['blk.0.attn_k.weight', 'blk.29.ffn_down.weight', 'token_embd.weight'])(
    '%s on the GPU is what it is in the file',
    async (name) => {
      const t = (await readGguf(await fromPath(path))).tensors.get(name)
      if (!t || (t.type !== 'Q4_1' && t.type !== 'Q8_0')) throw new Error(`${name}: ${t?.type}`)
      const rows = Math.min(t.shape[0], 192)
      const count = rows * t.shape[1]
      const bytes = await t.source.read(t.offset, (t.bytes / t.shape[0]) * rows)
      expect(
        Buffer.compare(
          Buffer.from(unpack(repack(t.type, bytes, count), count).buffer),
          Buffer.from(toFloat32(t.type, bytes, count).buffer),
        ),
      ).toBe(0)
    },
  )
})
