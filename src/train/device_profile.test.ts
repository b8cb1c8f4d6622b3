/** The self-check against kernels that are really wrong, and the tuner within its limits, on devices of their own. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { closeness, randn, run } from '../../test/gpu.ts'
import { Gpu, targetOf } from '../gpu/device.ts'
import type { Variant } from '../gpu/kernel.ts'
import { chooseMatmul, matmulCandidates } from '../kernels/matmul.ts'
import { tuneMatmuls } from '../kernels/tune.ts'
import { linear } from '../autograd/ops/linear.ts'
import { asWeight } from '../autograd/ops/matmul.ts'
import { prepareDevice, type ProfileStore } from './device_profile.ts'
import { selfCheck } from './self_check.ts'
import { dotIsFaster } from './tune_dot.ts'

/** `dot4I8Packed` by a driver that takes signed bytes for unsigned ones. */
const UNSIGNED = '\nfn wrong(a: u32, b: u32) -> i32 { return i32(dot4U8Packed(a, b)); }\n'

const devices: Gpu[] = []
const own = async (): Promise<Gpu> => {
  const gpu = await Gpu.request(globalThis.testGpu)
  devices.push(gpu)
  return gpu
}
afterAll(() => {
  for (const d of devices) d.destroy()
})
/** A driver that miscompiles one kernel: part of its text is another. */
function miscompile(gpu: Gpu, name: string, from: string | RegExp, to: string): void {
  const pipeline = gpu.pipeline.bind(gpu)
  gpu.pipeline = (v: Variant) => {
    const { kernel } = v
    if (kernel.name !== name || !kernel.generate) return pipeline(v)
    const generate: NonNullable<typeof kernel.generate> = (c, f) => {
      const text = kernel.generate!(c, f)
      const wrong = text.replace(from, to)
      expect(wrong).not.toBe(text)
      return wrong
    }
    return pipeline({ ...v, kernel: { ...kernel, generate } })
  }
}

describe('self-check', () => {
  test('a device that computes rightly keeps every path, in 0.3 s and without leaving anything', async () => {
    const gpu = await own()
    await selfCheck(gpu)
    const before = gpu.allocatedBytes
    const { off, notes, ms } = await selfCheck(gpu)
    expect([off, notes]).toEqual([{}, []])
    expect(gpu.allocatedBytes).toBe(before)
    console.log(`self-check: ${ms.toFixed(0)} ms with compiled pipelines`)
    expect(ms).toBeLessThan(2000)
  })

  test('immediates that do not arrive: they are switched off, with a line; without them all is right', async () => {
    const gpu = await own()
    if (gpu.traits.immediates === 0) return
    const { prototype } = globalThis.GPUComputePassEncoder
    const { setImmediates } = prototype
    prototype.setImmediates = function (at, _data, _from, bytes) {
      setImmediates.call(this, at, new ArrayBuffer(bytes!))
      return undefined
    }
    const { off, notes } = await selfCheck(gpu).finally(() => {
      prototype.setImmediates = setImmediates
    })
    expect(off).toEqual({ immediates: 0 })
    expect(notes).toEqual([expect.stringMatching(/^Uniforms as immediates gave wrong results/)])
    expect(gpu.traits.immediates).toBe(0)
    expect(await selfCheck(gpu)).toMatchObject({ off: {}, notes: [] })
  })

  test('packed products that a driver gets wrong: they are switched off, with a line; without them all is right', async () => {
    const gpu = await own()
    if (!gpu.traits.dot) return
    const { device } = gpu
    const make = device.createShaderModule.bind(device)
    // Bytes that are taken for unsigned ones.
    device.createShaderModule = (d) => make({ ...d, code: d.code.replaceAll('dot4I8Packed', 'wrong').replace(/$/, UNSIGNED) })
    const { off, notes } = await selfCheck(gpu)
    expect(off).toEqual({ dot: false })
    expect(notes).toEqual(
      [4, 8].map((n) => expect.stringMatching(`^Packed products with weights of ${n} bits gave wrong results`) as string),
    )
    gpu.adopt({ ...off, dotFaster: true })
    expect(await selfCheck(gpu)).toMatchObject({ off: {}, notes: [] })
    expect(await dotIsFaster(gpu)).toBeNull()
  })

  const subgroups = targetOf
  test.each([
    ['matmul_sgk', /fma\(/, 'wrong_fma(', 'Matrix products by subgroups'],
    ['matmul_sgk', /(s\w+|subgroupBroadcast\([^,]+, )0u\)/, '$11u)', 'Matrix products by subgroups'],
    ['sum_squares', 'subgroupAdd(value)', 'value', 'Sums over subgroups'],
  ])('%s with %s wrong: subgroups are switched off, with a line; without them all is right', async (kernel, from, to, label) => {
    const gpu = await own()
    if (gpu.traits.subgroup === 0) return
    miscompile(gpu, kernel, from, to)
    const { off, notes } = await selfCheck(gpu)
    expect(off).toMatchObject({ subgroup: 0 })
    expect(notes.some((n) => n.startsWith(`${label} gave wrong results`))).toBe(true)
    gpu.adopt(off)
    expect(subgroups(gpu.traits).subgroup).toBe(0)
    expect(await selfCheck(gpu)).toMatchObject({ off: {}, notes: [] })
  })
})

describe('subgroup matrices', () => {
  test('of a driver that forgets a sum: they are switched off, with a line; without them all is right', async (context) => {
    const gpu = await own()
    if (!gpu.traits.matrix) return context.skip('this adapter has none (ETUDE_EXPERIMENTAL=1 asks for them)')
    expect(await selfCheck(gpu)).toMatchObject({ off: {}, notes: [] })
    const wrong = await own()
    const pipeline = wrong.pipeline.bind(wrong)
    wrong.pipeline = (v: Variant) => {
      const { kernel } = v
      const generate: typeof kernel.generate = (c, f) =>
        kernel.generate!(c, f).replace(/(subgroupMatrixMultiplyAccumulate\(\w+, \w+), sum0_0/, '$1, low0_0')
      return pipeline(v.flags.includes('matrix_f16') ? { ...v, kernel: { ...kernel, generate } } : v)
    }
    const { off, notes } = await selfCheck(wrong)
    expect(off).toEqual({ matrix: null })
    expect(notes).toEqual([expect.stringMatching(/^Subgroup matrices gave wrong results/)])
    wrong.adopt(off)
    expect(matmulCandidates(targetOf(wrong.traits)).some((c) => c.family === 'matrix')).toBe(false)
  })
})

describe('tuning', () => {
  let gpu: Gpu
  beforeAll(async () => {
    gpu = await own()
  })
  test('ends at its limit with what it has, leaves nothing, and no time at all is no error', async () => {
    const before = gpu.allocatedBytes
    const none = await tuneMatmuls(gpu, { limit: 0 })
    expect(none).toMatchObject({ matmuls: {}, complete: false })
    const some = await tuneMatmuls(gpu, { limit: 400 })
    // One measurement that is under way is finished.
    console.log(`tuning: ${Object.keys(some.matmuls).length} classes in ${some.ms.toFixed(0)} ms of 400`)
    expect(gpu.allocatedBytes).toBe(before)
    const candidates = matmulCandidates(targetOf(gpu.traits))
    for (const t of Object.values(some.matmuls)) expect(candidates).toContainEqual(t)
  })

  test('what is compiled too late is not made ready', async () => {
    const late = await own()
    const pipeline = late.pipeline.bind(late)
    const compiling: Promise<unknown>[] = []
    late.pipeline = (v: Variant) => {
      const p = pipeline(v)
      compiling.push(p)
      return p
    }
    expect(await tuneMatmuls(late, { limit: 1 })).toMatchObject({ complete: false })
    await Promise.allSettled(compiling)
    await new Promise((resolve) => setTimeout(resolve, 0))
    expect(compiling.length).toBeGreaterThan(0)
    expect(late.allocatedBytes).toBe(0)
  })

  test('packed products are measured against the others, and leave nothing', async () => {
    const gpu = await own()
    const before = gpu.allocatedBytes
    expect(await dotIsFaster(gpu, { limit: 0 })).toBeNull()
    const began = performance.now()
    const faster = await dotIsFaster(gpu, { limit: 60_000 })
    console.log(`packed products: ${faster ? '' : 'not '}faster, measured in ${(performance.now() - began).toFixed(0)} ms`)
    expect(faster === null).toBe(!gpu.traits.dot)
    expect(gpu.allocatedBytes).toBe(before)
  })

  test('what it found decides, also on software adapters', async () => {
    const found = { family: 'tile', BM: 32, BN: 32, BK: 16, TM: 4, TN: 4 } as const
    const shape = { layout: 'nt', M: 300, N: 64, K: 64, plain: true, packed: false, aligned: true, vectors: true, segments: [] } as const
    const target = { ...targetOf(gpu.traits), matmuls: { 'nt float many': found } }
    expect(chooseMatmul(target, shape)).toMatchObject({ constants: { BM: 32, TM: 4 } })
    expect(chooseMatmul({ ...target, software: false }, { ...shape, M: 100 })).not.toMatchObject({ constants: found })
    const [x, w] = [randn([300, 64], 1), randn([64, 64], 2)]
    const build = (traits: typeof target) => run(({ leaf }) => ({ y: linear(leaf([300, 64], x), asWeight(leaf([64, 64], w))) }), traits)
    expect(closeness((await build(target)).y, (await build({ ...target, matmuls: {} as never })).y)).toBeLessThan(1)
  })
})

test('a profile is found once for an adapter and a browser; another browser, damage or a wish to tune finds it anew', async () => {
  const files = new Map<string, string>()
  const store: ProfileStore = {
    read: (name) => Promise.resolve(files.get(name) ?? null),
    write: (name, text) => Promise.resolve(void files.set(name, text)),
  }
  const gpu = await own()
  const prepare = (browser: string) => prepareDevice(gpu, { store, browser, tune: false })
  expect(await prepare('Chrome 1')).toMatchObject({ stored: false, tuned: null, notes: [] })
  expect(await prepare('Chrome 1')).toMatchObject({ stored: true })
  expect(await prepare('Chrome 2')).toMatchObject({ stored: false })
  expect(files.size).toBe(2)
  for (const name of files.keys()) files.set(name, '{"off":')
  expect(await prepare('Chrome 1')).toMatchObject({ stored: false })
  const [[name]] = files
  const matmuls = { 'nt float many': { family: 'tile', BM: 32, BN: 32, BK: 16, TM: 4, TN: 4 } }
  const note = 'Sums over subgroups gave wrong results (element 0 is 1, not 2): switched off.'
  files.set(name, JSON.stringify({ off: { subgroup: 0 }, notes: [note], tuned: { classes: 1, ms: 5 }, matmuls, dotFaster: true }))
  const tuned = await prepareDevice(gpu, { store, browser: 'Chrome 1', tune: true })
  expect(tuned).toEqual({ stored: true, notes: [note], tuned: { classes: 1, ms: 5 } })
  expect(gpu.traits).toMatchObject({ subgroup: 0, matmuls, dotFaster: true })
  // A store that fails is as good as none.
  const broken = { read: () => Promise.reject(new Error('no')), write: () => Promise.reject(new Error('no')) }
  expect(await prepareDevice(await own(), { store: broken, browser: 'Chrome 1', tune: false })).toMatchObject({ stored: false, notes: [] })
})
