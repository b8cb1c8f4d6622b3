import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromFloat32 } from './dequantize.ts'
import { gatherRows, packF16, ropeRowOrder } from './repack.ts'

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
