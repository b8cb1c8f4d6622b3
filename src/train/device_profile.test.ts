/** The self-check against kernels that are really wrong, and the tuner within its limits, on devices of their own. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { closeness, randn, run } from '../../test/gpu.ts'
import { Gpu, targetOf } from '../gpu/device.ts'
import type { Variant } from '../gpu/kernel.ts'
import { chooseMatmul, matmulCandidates } from '../kernels/matmul.ts'
import { tuneMatmuls } from '../kernels/tune.ts'
import { linear } from '../autograd/ops/linear.ts'
import { asWeight } from '../autograd/ops/matmul.ts'
import { prepareDevice, type ProfileOptions, type ProfileStore } from './device_profile.ts'
import { selfCheck } from './self_check.ts'
import { dotIsFaster } from './tune_dot.ts'

/** `dot4I8Packed` by a driver that takes signed bytes for unsigned ones. */
const UNSIGNED = '\nfn wrong(a: u32, b: u32) -> i32 { return i32(dot4U8Packed(a, b)); }\n'

const devices: Gpu[] = []
/** What a search that ended early leaves behind: a device that is destroyed while it compiles takes lavapipe down. */
const compiling: Promise<unknown>[] = []
const own = async (): Promise<Gpu> => {
  const gpu = await Gpu.request(globalThis.testGpu)
  devices.push(gpu)
  const pipeline = gpu.pipeline.bind(gpu)
  gpu.pipeline = (v: Variant) => {
    const p = pipeline(v)
    compiling.push(p)
    return p
  }
  return gpu
}
afterAll(async () => {
  await Promise.allSettled(compiling)
  for (const d of devices) d.destroy()
})
/** A driver that miscompiles one kernel: part of its text is another. */
function miscompile(gpu: Gpu, name: string, from: string | RegExp, to: string): { readonly variants: number } {
  const hit = { variants: 0 }
  const pipeline = gpu.pipeline.bind(gpu)
  gpu.pipeline = (v: Variant) => {
    const { kernel } = v
    if (kernel.name !== name || !kernel.generate) return pipeline(v)
    const generate: NonNullable<typeof kernel.generate> = (c, f) => {
      const text = kernel.generate!(c, f)
      const wrong = text.replace(from, to)
      if (wrong !== text) hit.variants++
      return wrong
    }
    return pipeline({ ...v, kernel: { ...kernel, generate } })
  }
  return hit
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
    ['matmul_sgk', /nf4_shuffled\(/g, '-nf4_shuffled(', 'Layers of NF4 by subgroups'],
    ['matmul_sgk', /subgroupShuffle\(dm/g, '-subgroupShuffle(dm', 'Layers of 4-bit blocks by subgroups'],
    ['attention_dq_sgk', /subgroupBroadcast\(/g, '-subgroupBroadcast(', 'Attention by subgroups'],
    ['attention_dkv_sgk', /subgroupBroadcast\(/g, '-subgroupBroadcast(', 'Attention by subgroups'],
    ['sum_squares', 'subgroupAdd(value)', 'value', 'Sums over subgroups'],
  ])('%s with %s wrong: subgroups are switched off, with a line; without them all is right', async (kernel, from, to, label) => {
    const gpu = await own()
    if (gpu.traits.subgroup === 0) return
    const hit = miscompile(gpu, kernel, from, to)
    const { off, notes } = await selfCheck(gpu)
    expect(hit.variants).toBeGreaterThan(0)
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
    expect(some.complete || some.ms >= 400).toBe(true)
    expect(gpu.allocatedBytes).toBe(before)
    const candidates = matmulCandidates(targetOf(gpu.traits))
    for (const t of Object.values(some.matmuls)) expect(candidates).toContainEqual(t)
  })

  test('what is compiled too late is not made ready', async () => {
    const late = await own()
    const pipeline = late.pipeline.bind(late)
    const over = new AbortController()
    const before = compiling.length
    late.pipeline = (v: Variant) => {
      over.abort()
      return pipeline(v)
    }
    expect(await tuneMatmuls(late, { limit: 60_000, signal: over.signal })).toMatchObject({ complete: false })
    await Promise.allSettled(compiling)
    await new Promise((resolve) => setTimeout(resolve, 0))
    expect(compiling.length).toBeGreaterThan(before)
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

describe('a profile', () => {
  const files = new Map<string, string>()
  const store: ProfileStore = {
    read: (name) => Promise.resolve(files.get(name) ?? null),
    write: (name, text) => Promise.resolve(void files.set(name, text)),
  }
  const matmuls = { 'nt float many': { family: 'tile', BM: 32, BN: 32, BK: 16, TM: 4, TN: 4 } }
  const prepare = (gpu: Gpu, browser: string, o: Partial<ProfileOptions> = {}) =>
    prepareDevice(gpu, { store, browser, tune: true, limit: 0, ...o })
  const nameOf = async (gpu: Gpu, browser: string): Promise<string> => {
    files.clear()
    await prepare(gpu, browser)
    return [...files.keys()][0]
  }

  test('what was measured is kept for an adapter and a browser, and used; another browser and damage begin anew', async () => {
    const gpu = await own()
    const name = await nameOf(gpu, 'Chrome 1')
    await prepare(gpu, 'Chrome 2')
    expect(files.size).toBe(2)
    files.set(name, JSON.stringify({ matmuls, dotFaster: true, complete: true, ms: 5 }))
    const onTuning = vi.fn()
    expect(await prepare(gpu, 'Chrome 1', { onTuning })).toEqual({ stored: true, notes: [], tuned: { classes: 1, ms: 5 } })
    expect(onTuning).not.toHaveBeenCalled()
    expect(gpu.traits).toMatchObject({ matmuls, dotFaster: true })
    for (const damaged of [
      '{"off":',
      '{}',
      JSON.stringify({ matmuls: { a: { family: 'tile', BM: -1 } }, dotFaster: null, complete: true, ms: 1 }),
    ]) {
      files.set(name, damaged)
      expect(await prepare(await own(), 'Chrome 1', { onTuning })).toMatchObject({ stored: false, notes: [] })
    }
    expect(onTuning).toHaveBeenCalledTimes(3)
  })

  test('what there was no time for is measured at the next start', async () => {
    const gpu = await own()
    const name = await nameOf(gpu, 'Chrome 3')
    expect(JSON.parse(files.get(name)!)).toMatchObject({ matmuls: {}, complete: false })
    files.set(name, JSON.stringify({ matmuls, dotFaster: false, complete: false, ms: 5 }))
    expect(await prepare(gpu, 'Chrome 3')).toMatchObject({ stored: false, tuned: { classes: 1 } })
    const kept = JSON.parse(files.get(name)!) as { matmuls: object; ms: number }
    expect(kept.matmuls).toEqual(matmuls)
    expect(kept.ms).toBeGreaterThanOrEqual(5)
  })

  test('skipped: what was found is used and not kept, and it takes no more than one measurement', async () => {
    const gpu = await own()
    files.clear()
    const skip = new AbortController()
    const began = performance.now()
    const notes = await prepare(gpu, 'Chrome 4', { limit: 60_000, signal: skip.signal, onTuning: () => setTimeout(() => skip.abort(), 50) })
    console.log(`skipped after 50 ms: ready after ${(performance.now() - began).toFixed(0)} ms`)
    expect(notes.stored).toBe(false)
    expect(files.size).toBe(0)
  })

  test('without measuring: stored choices are used where that is asked for, and nothing else', async () => {
    const gpu = await own()
    const name = await nameOf(gpu, 'Chrome 5')
    files.clear()
    const hardware = (g: Gpu): Gpu => (g.adopt({ software: false }), g)
    const onTuning = vi.fn()
    expect(await prepare(hardware(await own()), 'Chrome 5', { tune: 'stored', onTuning })).toMatchObject({ tuned: null })
    files.set(name, JSON.stringify({ matmuls, dotFaster: false, complete: false, ms: 5 }))
    expect(await prepare(hardware(await own()), 'Chrome 5', { tune: 'stored', onTuning })).toMatchObject({
      stored: true,
      tuned: { classes: 1 },
    })
    expect(await prepare(hardware(await own()), 'Chrome 5', { tune: false, onTuning })).toMatchObject({ tuned: null })
    expect(await prepare(await own(), 'Chrome 5', { tune: 'auto', onTuning })).toMatchObject({ tuned: null })
    expect(onTuning).not.toHaveBeenCalled()
  })

  test('every start checks the device: what is wrong today is not kept for tomorrow', async () => {
    const gpu = await own()
    if (gpu.traits.subgroup === 0) return
    miscompile(gpu, 'sum_squares', 'subgroupAdd(value)', 'value')
    const { notes } = await prepare(gpu, 'Chrome 6', { tune: false })
    expect(notes).toEqual([expect.stringMatching(/^Sums over subgroups gave wrong results/)])
    expect(gpu.traits.subgroup).toBe(0)
    expect(await prepare(await own(), 'Chrome 6', { tune: false })).toMatchObject({ notes: [] })
  })

  test('a tuned product that is wrong: tuning is not used, with a line', async () => {
    const gpu = await own()
    const name = await nameOf(gpu, 'Chrome 7')
    files.set(name, JSON.stringify({ matmuls, dotFaster: false, complete: true, ms: 5 }))
    const wrong = await own()
    miscompile(wrong, 'matmul_tile', 'params.K', '(params.K - 4u)')
    const { notes, tuned } = await prepare(wrong, 'Chrome 7')
    expect(notes[0]).toMatch(/^Matrix products as tuned gave wrong results/)
    expect([tuned, wrong.traits.matmuls]).toEqual([{ classes: 0, ms: 5 }, {}])
  })

  test('a store that fails is as good as none', async () => {
    const broken = { read: () => Promise.reject(new Error('no')), write: () => Promise.reject(new Error('no')) }
    expect(await prepare(await own(), 'Chrome 1', { store: broken })).toMatchObject({ stored: false, notes: [] })
  })
})
