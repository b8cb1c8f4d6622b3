/** Philox against the known answers of Random123 (tests/kat_vectors), and dropout against the same function in 64-bit integers: equal, not close. */
import { describe, expect, test } from 'vitest'
import { closeness, gpu, randn, run } from '../../../test/gpu.ts'
import { live, MODES, rowsOf } from '../../../test/modes.ts'
import philox from '../../../shaders/lib/philox.wesl?raw'
import { waitFor } from '../../gpu/wait.ts'
import { OptionError } from '../../errors.ts'
import { derived, ScalarInput } from '../../tensor/graph.ts'
import { readBuffer } from '../../tensor/storage.ts'
import { backward, checkpoint } from '../backward.ts'
import { dropout } from './dropout.ts'
import { scale } from './pointwise.ts'

type Four = readonly [number, number, number, number]
/** Philox4x32-10 in big integers. */
function reference(counter: Four, key: readonly [number, number]): number[] {
  let [a, b, c, d] = counter.map(BigInt) as [bigint, bigint, bigint, bigint]
  let [k, l] = key.map(BigInt) as [bigint, bigint]
  const low = (v: bigint): bigint => v & 0xffffffffn
  for (let round = 0; round < 10; round++) {
    const p = 0xd2511f53n * a
    const q = 0xcd9e8d57n * c
    ;[a, b, c, d] = [(q >> 32n) ^ b ^ k, low(q), (p >> 32n) ^ d ^ l, low(p)]
    ;[k, l] = [low(k + 0x9e3779b9n), low(l + 0xbb67ae85n)]
  }
  return [a, b, c, d].map(Number)
}

const KNOWN: { counter: Four; key: [number, number]; value: number[] }[] = [
  { counter: [0, 0, 0, 0], key: [0, 0], value: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    value: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    value: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
]

test('the known answers of Random123', async () => {
  for (const { counter, key, value } of KNOWN) expect(reference(counter, key)).toEqual(value)
  const cases = KNOWN.map(({ counter, key }, i) => `out[${i}] = philox4x32_10(vec4u(${counter.join('u, ')}u), vec2u(${key.join('u, ')}u));`)
  const code = `${philox}\n@group(0) @binding(0) var<storage, read_write> out: array<vec4u>;\n@compute @workgroup_size(1) fn main() { ${cases.join('\n')} }`
  const module = gpu.device.createShaderModule({ code })
  const pipeline = await waitFor(gpu.device.createComputePipelineAsync({ layout: 'auto', compute: { module } }))
  const buffer = gpu.createBuffer(KNOWN.length * 16, 0x80 | 0x4, 'philox')
  const encoder = gpu.device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  pass.setPipeline(pipeline)
  pass.setBindGroup(
    0,
    gpu.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] }),
  )
  pass.dispatchWorkgroups(1)
  pass.end()
  gpu.device.queue.submit([encoder.finish()])
  const out = new Uint32Array(await readBuffer(gpu, buffer, 0, KNOWN.length * 16))
  gpu.destroyBuffer(buffer)
  expect([...out]).toEqual(KNOWN.flatMap((k) => k.value))
})

describe.each(MODES.slice(0, 2))('$name', (mode) => {
  test.each([
    { M: 1, C: 4, p: 0.5, seed: 0, step: 0, stream: 0 },
    { M: 33, C: 20, p: 0.1, seed: 0xfffffffe, step: 3, stream: 11 },
    { M: 5, C: 7, p: 0.9, seed: 17, step: 0, stream: 1 },
  ])('p = $p on [$M, $C]: the mask of the generator, again in the gradient', async ({ M, C, p, seed, step, stream }) => {
    const [x, dy] = [randn([M, C], 1), randn([M, C], 2)]
    const out = await run(({ leaf }) => {
      const [shape, values, o] = rowsOf(mode, [M, C], [...x])
      const t = leaf(shape, values, { ...o, grad: true })
      const random = { seed: new ScalarInput(seed), step: derived(() => step), stream }
      const y = dropout(t, p, random)
      const d = leaf(...rowsOf(mode, [M, C], [...dy]))
      backward(y, d)
      const u = scale(t, 1)
      return {
        y,
        dx: t.sink!,
        recomputed: backward(
          checkpoint((v) => dropout(v, p, random), u),
          d,
          [u],
        )[0]!,
      }
    }, mode.traits)
    const keep = x.map((_, i) => (reference([i >> 2, stream, 0, 0], [seed, step])[i & 3] >= p * 2 ** 32 ? 1 / (1 - p) : 0))
    expect(
      closeness(
        live(out.y, x),
        x.map((v, i) => v * keep[i]),
        1e-6,
        1e-7,
      ),
    ).toBeLessThan(1)
    const expected = dy.map((v, i) => v * keep[i])
    expect(closeness(live(out.dx, x), expected, 1e-6, 1e-7)).toBeLessThan(1)
    expect(closeness(live(out.recomputed, x), expected, 1e-6, 1e-7)).toBeLessThan(1)
  })
})

test('keeps the mean, differs by seed, step and stream; p = 0 is free', async () => {
  const n = 40_000
  const ones = new Float32Array(n).fill(1)
  const out = await run(({ g, leaf }) => {
    const x = leaf([n / 4, 4], ones)
    expect(dropout(x, 0, { seed: 1, stream: 1 })).toBe(x)
    expect(g.calls.length).toBe(0)
    expect(() => dropout(x, 1, { seed: 1, stream: 1 })).toThrow(OptionError)
    expect(() => dropout(x, NaN, { seed: 1, stream: 1 })).toThrow(OptionError)
    return {
      a: dropout(x, 0.3, { seed: 1, stream: 1 }),
      b: dropout(x, 0.3, { seed: 2, stream: 1 }),
      c: dropout(x, 0.3, { seed: 1, stream: 2 }),
      d: dropout(x, 0.3, { seed: 1, step: 1, stream: 1 }),
    }
  })
  const masks = Object.values(out)
  for (const mask of masks) {
    const kept = mask.reduce((k, v) => k + Number(v !== 0), 0) / n
    // Five standard deviations of a binomial share.
    expect(Math.abs(kept - 0.7)).toBeLessThan(5 * Math.sqrt(0.21 / n))
  }
  for (let i = 0; i < masks.length; i++)
    for (let j = 0; j < i; j++) {
      const equal = masks[i].reduce((k, v, at) => k + Number((v !== 0) === (masks[j][at] !== 0)), 0) / n
      expect(Math.abs(equal - 0.58)).toBeLessThan(5 * Math.sqrt((0.58 * 0.42) / n))
    }
})
