/** @file Packed products in generation: new tokens alone take them, `logits` never does, and they cost no memory to speak of. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { gpu } from '../../test/gpu.ts'
import { onGpu, tinyBundle, type TinyStorage } from '../../test/tiny.ts'
import { Generator, type GeneratorOptions } from './generator.ts'
import type { TunableLayout } from './tunable.ts'

const IDS = [3, 1, 4, 1, 5]
const GREEDY = { temperature: 0, topK: 0, topP: 1, seed: 0, stopIds: [] }
const norm = (v: Float32Array): number => Math.sqrt(v.reduce((s, t) => s + t * t, 0))
const dots = (g: Generator): Record<string, number> =>
  Object.fromEntries(g.programs.specs.map(({ name, graph }) => [name, graph.calls.filter((c) => c.flags.includes('dot')).length]))

const open: { destroy(): void }[] = []
async function model(type: TinyStorage): Promise<TunableLayout> {
  const t = await onGpu(await tinyBundle({}, { type }), null)
  open.push(t)
  return t
}
async function generator(t: TunableLayout, o: Partial<GeneratorOptions> = {}): Promise<Generator> {
  const g = await Generator.create(gpu, t, { capacity: 24, ...o })
  open.push(g)
  return g
}
afterEach(() => {
  for (const o of open.splice(0).reverse()) o.destroy()
  gpu.adopt({ dotFaster: false })
})

test('one that cannot be made leaves nothing: neither keys and values, nor what was compiled', async () => {
  const t = await model('F32')
  const before = gpu.allocatedBytes
  const { maxBindingSize } = gpu.traits
  // 4096 positions of 16 keys: 256 KiB a layer.
  gpu.adopt({ maxBindingSize: 2 ** 17 })
  await expect(Generator.create(gpu, t, { capacity: 4096 })).rejects.toThrow(/keys 0: it takes 262144 bytes/)
  gpu.adopt({ maxBindingSize })
  expect(gpu.allocatedBytes).toBe(before)
  const createBuffer = gpu.createBuffer.bind(gpu)
  const create = vi.spyOn(gpu, 'createBuffer').mockImplementation((size, usage, label) => {
    if (label.includes('read back')) throw new Error('no more')
    return createBuffer(size, usage, label)
  })
  await expect(Generator.create(gpu, t, { capacity: 24 })).rejects.toThrow('no more')
  create.mockRestore()
  expect(gpu.allocatedBytes).toBe(before)
})

describe.skipIf(!gpu.traits.dot)('packed products', () => {
  test.each(['Q4_1', 'Q8_0'] as const)(
    '%s: every product of a new token but those of attention; logits after it within 1e-2',
    async (type) => {
      const t = await model(type)
      const [plain, dot] = [await generator(t), await generator(t, { dot: true })]
      // Two layers of four (fused) projections, and the head, whose table is of 8-bit blocks.
      expect(dots(plain)).toEqual({ read: 0, decode: 0 })
      expect(dots(dot)).toEqual({ read: 0, decode: 0, 'decode dot': 9 })
      expect(await dot.logits(IDS)).toEqual(await plain.logits(IDS))
      const record = vi.spyOn(dot.session.program('decode dot'), 'record')
      const made = { ...GREEDY, maxTokens: 2 }
      expect((await dot.generate(IDS, made)).ids).toEqual((await plain.generate(IDS, made)).ids)
      expect(record).toHaveBeenCalledTimes(1)
      const [got, want] = [new Float32Array(await dot.programs.logits.read()), new Float32Array(await plain.programs.logits.read())]
      const apart = norm(got.map((v, i) => v - want[i])) / norm(want)
      console.log(`${type}: logits of a new token apart by ${apart.toExponential(1)} of their norm`)
      expect(apart).toBeGreaterThan(0)
      expect(apart).toBeLessThan(1e-2)
      // Also after packed products have written keys and values; one token read at once is no new token.
      for (const ids of [IDS, [7]]) expect(await dot.logits(ids)).toEqual(await plain.logits(ids))
      await dot.generate(IDS, { ...GREEDY, maxTokens: 12 })
      expect(record).toHaveBeenCalledTimes(12)
    },
  )

  test('memory: what was planned is allocated, and only uniforms come to it', async () => {
    const t = await model('Q4_1')
    const weights = t.storages.reduce((n, s) => n + s.bytes, 0)
    const made = async (dot: boolean) => {
      const before = gpu.allocatedBytes
      const g = await generator(t, { dot })
      const { total } = g.session.plan
      expect(gpu.allocatedBytes - before + weights).toBe(total)
      return { g, total }
    }
    const [plain, dot] = [await made(false), await made(true)]
    const calls = dot.g.session.program('decode dot').graph.calls.length
    expect(dot.total - plain.total).toBeLessThanOrEqual(256 * calls + 1024)
  })

  test('by itself only where it was measured to be faster, and where it is right; never for floats', async () => {
    const t = await model('Q8_0')
    const uses = async (o: Partial<GeneratorOptions> = {}, u = t) => 'decode dot' in dots(await generator(u, o))
    expect(await uses()).toBe(false)
    gpu.adopt({ dotFaster: true })
    expect(await uses()).toBe(true)
    expect(await uses({ dot: false })).toBe(false)
    expect(await uses({ dot: true }, await model('F32'))).toBe(false)
    gpu.adopt({ dot: false })
    expect([await uses(), await uses({ dot: true })]).toEqual([false, false])
    gpu.adopt({ dot: true })
  })
})
