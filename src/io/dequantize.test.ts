import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { fromBase64, goldenJson } from '../../test/files.ts'
import { describeShared } from '../../test/shared.ts'
import { fromFloat32, toFloat32 } from './dequantize.ts'
import { f16FromBits, f16Table, toF16 } from './float16.ts'
import { readGguf } from './gguf.ts'
import { fromPath } from './node_source.ts'
import type { StorageType } from './source.ts'
import { BLOCKS } from './storage.ts'

interface Case {
  readonly type: StorageType
  readonly count: number
  readonly bytes: string
  readonly float32: string
}

describe('toFloat32', () => {
  // Tolerance 0: both follow ggml's order of float32 roundings.
  it.each(goldenJson('io/dequantize.json') as Case[])(
    '$type equals gguf.quants.dequantize bit for bit',
    ({ type, count, bytes, float32 }) => {
      const got = toFloat32(type, fromBase64(bytes), count)
      expect(got).toEqual(new Float32Array(fromBase64(float32).buffer))
      const shifted = new Uint8Array(fromBase64(bytes).length + 1)
      shifted.set(fromBase64(bytes), 1)
      expect(toFloat32(type, shifted.subarray(1), count)).toEqual(got)
    },
  )
  it('reads F32 and F64', () => {
    const values = [1.5, -2.25, 1e-30, Infinity]
    expect(toFloat32('F32', new Uint8Array(Float32Array.from(values).buffer), 4)).toEqual(Float32Array.from(values))
    expect(toFloat32('F64', new Uint8Array(Float64Array.from(values).buffer), 4)).toEqual(Float32Array.from(values))
  })
  it('refuses bytes that do not fit the count, and integers', () => {
    for (const type of Object.keys(BLOCKS) as StorageType[]) {
      const [block, bytes] = BLOCKS[type]
      expect(() => toFloat32(type, new Uint8Array(bytes - 1), block)).toThrow(FileError)
      expect(() => toFloat32(type, new Uint8Array(bytes + 1), block)).toThrow(FileError)
    }
    expect(() => toFloat32('I32', new Uint8Array(4), 1)).toThrow(/integers/)
    expect(() => toFloat32('Q8_0', new Uint8Array(34), 31)).toThrow(FileError)
  })
})

describe('fromFloat32', () => {
  const golden = goldenJson('io/float16.json') as Record<'float32' | 'float16' | 'bfloat16', string>
  const values = new Float32Array(fromBase64(golden.float32).buffer)
  it('rounds as PyTorch does: ties, subnormals, overflow', () => {
    expect(fromFloat32('F16', values)).toEqual(fromBase64(golden.float16))
    expect(fromFloat32('BF16', values)).toEqual(fromBase64(golden.bfloat16))
    expect(fromFloat32('F32', values)).toEqual(fromBase64(golden.float32))
  })
  it('keeps every f16 and bf16 number, and NaN as NaN', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i)
    for (const type of ['F16', 'BF16'] as const) {
      const wide = toFloat32(type, new Uint8Array(all.buffer), 65536)
      const back = new Uint16Array(fromFloat32(type, wide).buffer)
      for (let i = 0; i < 65536; i++) {
        if (Number.isNaN(wide[i])) expect(toFloat32(type, fromFloat32(type, wide.subarray(i, i + 1)), 1)[0]).toBeNaN()
        else if (back[i] !== i) throw new Error(`${type} ${i} became ${back[i]}`)
      }
    }
  })
  it('f16 is the nearest there is', () => {
    const table = f16Table()
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -65000, max: 65000 }), (x) => {
        const h = toF16(x)
        const error = Math.abs(table[h] - x)
        for (const near of [h - 1, h + 1])
          if (near >= 0 && near < 65536 && Number.isFinite(table[near])) expect(error).toBeLessThanOrEqual(Math.abs(table[near] - x))
      }),
    )
    expect(f16FromBits(0x80000000)).toBe(0x8000)
  })
})

describeShared('SmolLM2-135M-Instruct', ['models', 'smollm2-135m-instruct', 'SmolLM2-135M-Instruct.Q4_1.gguf'], (path) => {
  it('135 million weights are dequantised in seconds', { timeout: 60_000 }, async () => {
    const { tensors } = await readGguf(await fromPath(path))
    let ms = 0
    let sum = 0
    for (const t of tensors.values()) {
      const bytes = await t.source.read(t.offset, t.bytes)
      const start = performance.now()
      const w = toFloat32(
        t.type,
        bytes,
        t.shape.reduce((a, b) => a * b, 1),
      )
      ms += performance.now() - start
      sum += w[0]
    }
    expect(Number.isFinite(sum)).toBe(true)
    // About a second on two shared cores; the limit leaves room for a busy machine.
    expect(ms).toBeLessThan(10_000)
    if (process.env.ETUDE_TIMES) console.log(`dequantised in ${ms.toFixed(0)} ms`)
  })
})
