/** `plan`: what it says, that it reads no weight, what changes it, and that a run of the same options takes just that. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { GpuError, OptionError } from '../src/errors.ts'
import { BY_COST } from '../src/train/policy.ts'
import { scratch, TEST_GPU, tokenRows, tune, tuneOn } from './cli.ts'
import { gpu } from './gpu.ts'
import { TINY, tinyFiles } from './tiny.ts'

interface Plan {
  readonly planned_bytes: number
  readonly by_class: Readonly<Record<string, number>>
  readonly policy: string
  readonly dispatches: number
  readonly policies: readonly {
    readonly policy: string
    readonly planned_bytes: number
    readonly dispatches: number
    readonly arithmetic: number
    readonly checkpoint_every: number | null
  }[]
}

const { maxBindingSize } = gpu.traits
afterEach(() => {
  vi.restoreAllMocks()
  gpu.adopt({ maxBindingSize })
})

/** Enough blocks and tokens that policies differ. */
const CONFIG = { ...TINY, num_hidden_layers: 4, vocab_size: 512 }
function config(): string {
  const path = join(scratch(), 'config.json')
  writeFileSync(path, JSON.stringify(CONFIG))
  return path
}
const plan = async (...argv: string[]): Promise<Plan> => (await tune('plan', ...argv, '--json')).results[0] as Plan

test('--json: exactly these fields; classes add up; each policy with what it takes; text for people', async () => {
  const model = config()
  const out = await tune('plan', '--model', model, '--json')
  expect(out.results).toHaveLength(1)
  const p = out.results[0] as Plan
  expect(Object.keys(p)).toEqual(['planned_bytes', 'by_class', 'policy', 'dispatches', 'policies'])
  expect(Object.keys(p.by_class)).toEqual(['weights', 'adapter', 'optimizer', 'activations', 'head'])
  expect(Object.values(p.by_class).every((n) => Number.isInteger(n) && n > 0)).toBe(true)
  expect(Object.values(p.by_class).reduce((a, b) => a + b)).toBe(p.planned_bytes)
  expect(p.policies.map((x) => x.policy)).toEqual(BY_COST)
  for (const x of p.policies) expect(Object.keys(x)).toEqual(['policy', 'planned_bytes', 'dispatches', 'arithmetic', 'checkpoint_every'])
  const cost = Object.fromEntries(p.policies.map((x) => [x.policy, x]))
  // Frozen weights: a backward pass takes about what a forward pass does, and a block that is computed again takes half as much again. The head is not.
  expect(cost.fast.arithmetic).toBe(1)
  expect(cost.recompute.arithmetic).toBe(1)
  expect(cost.checkpoint.arithmetic).toBeGreaterThan(1.1)
  expect(cost.checkpoint.arithmetic).toBeLessThan(1.5)
  expect([cost.fast, cost.recompute].map((x) => x.checkpoint_every)).toEqual([null, null])
  expect(cost.checkpoint.checkpoint_every).toBeGreaterThanOrEqual(1)
  expect(p.policies.find((x) => x.policy === p.policy)).toMatchObject({ planned_bytes: p.planned_bytes, dispatches: p.dispatches })
  const text = (await tune('plan', '--model', model)).text
  expect(text).toContain(`${(p.planned_bytes / 1e6).toFixed(1)} MB of GPU memory, policy ${p.policy}`)
})

test('defaults are lora, keep and auto; base and policy each change the result; a config stands for random weights of its shapes', async () => {
  const model = config()
  const plain = await plan('--model', model)
  expect(await plan('--model', model, '--method', 'lora', '--base', 'keep', '--policy', 'auto')).toEqual(plain)
  expect(await plan('--model', `random:${model}`)).toEqual(plain)
  // On this device all of it fits.
  expect(plain.policy).toBe('fast')
  const bases = []
  for (const base of ['f16', 'q8', 'nf4']) {
    const p = await plan('--model', model, '--base', base)
    for (const other of ['adapter', 'optimizer', 'head']) expect(p.by_class[other]).toBe(plain.by_class[other])
    bases.push(p.by_class.weights)
  }
  const [f16, q8, nf4] = bases
  expect(plain.by_class.weights).toBeGreaterThan(f16)
  expect(f16).toBeGreaterThan(q8)
  expect(q8).not.toBe(nf4)
  for (const policy of BY_COST) {
    const p = await plan('--model', model, '--policy', policy)
    expect(p.policy).toBe(policy)
    expect(p.planned_bytes).toBe(plain.policies.find((x) => x.policy === policy)!.planned_bytes)
  }
  const totals = plain.policies.map((x) => x.planned_bytes)
  expect(new Set(totals).size).toBe(totals.length)
  expect((await plan('--model', model, '--method', 'full')).by_class.optimizer).toBeGreaterThan(plain.by_class.optimizer)
})

test('of a folder it reads the header and no weight, makes no buffer and measures nothing', async () => {
  const folder = join(scratch(), 'm')
  mkdirSync(folder)
  let header = 0
  for (const [name, source] of tinyFiles(CONFIG)) {
    const bytes = await source.read(0, source.size)
    writeFileSync(join(folder, name), bytes)
    if (name.endsWith('.safetensors')) header = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))
  }
  const handle = await open(join(folder, 'model.safetensors'))
  const type = Object.getPrototypeOf(handle) as typeof handle
  const { size } = await handle.stat()
  await handle.close()
  expect(size).toBeGreaterThan(4 * header)
  const reads = vi.spyOn(type, 'read')
  const made = gpu.buffersCreated
  const opened: unknown[] = []
  const watched = tuneOn({ ...TEST_GPU, open: (o) => (opened.push(o), TEST_GPU.open()) })
  const p = (await watched('plan', '--model', folder, '--json')).results[0] as Plan
  const ends = reads.mock.calls.map((call) => {
    const [, , length, position] = call as unknown as [Uint8Array, number, number, number]
    return position + length
  })
  expect(ends.length).toBeGreaterThan(1)
  expect(Math.max(...ends)).toBeLessThanOrEqual(header)
  expect(gpu.buffersCreated).toBe(made)
  expect(opened).toEqual([undefined])
  expect(p).toEqual(await plan('--model', config()))
})

test.each([
  ['lora', ['--set', 'r=4']],
  ['lora', ['--set', 'r=4', '--base', 'nf4', '--policy', 'lean']],
  ['dora', ['--base', 'q8', '--policy', 'checkpoint', '--activation-dtype', 'f16']],
  ['full', ['--optim', 'adamw_8bit']],
] as const)('%s %j: a run on random weights of a config takes what was planned, to the byte', async (method, flags) => {
  const folder = scratch()
  const common = ['--model', `random:${config()}`, '--method', method, ...flags, '--batch', '4', '--seq', '16']
  const planned = await plan(...common)
  const before = gpu.allocatedBytes
  const ran = await tune(...common, '--data', tokenRows(folder), '--steps', '2', '--out', join(folder, 'o'), '--json')
  const last = ran.results.at(-1) as { planned_bytes: number; allocated_bytes: number; dispatches: number }
  expect(last.planned_bytes).toBe(planned.planned_bytes)
  expect(last.allocated_bytes - before).toBe(planned.planned_bytes)
  expect(last.dispatches).toBe(planned.dispatches)
  expect(ran.notes.join()).toContain('The weights are random')
})

test('random weights are drawn from --seed', async () => {
  const folder = scratch()
  const data = tokenRows(folder)
  const model = `random:${config()}`
  const first = async (seed: string): Promise<number> => {
    const argv = ['--model', model, '--data', data, '--seed', seed, '--no-shuffle', '--batch', '4', '--seq', '16', '--steps', '1']
    return ((await tune(...argv, '--out', join(folder, 'o'), '--json')).results[0] as { loss: number }).loss
  }
  // B is 0 before the first step: its loss is that of the frozen weights alone.
  expect(await first('1')).toBe(await first('1'))
  expect(await first('1')).not.toBe(await first('2'))
})

test('what one binding cannot hold is refused, by plan and by tune before a weight is read', async () => {
  const folder = scratch()
  const model = `random:${config()}`
  gpu.adopt({ maxBindingSize: 2 ** 14 })
  const made = gpu.buffersCreated
  const full = ['--model', model, '--method', 'full']
  const run = ['--data', tokenRows(folder), '--out', join(folder, 'o')]
  for (const argv of [
    ['plan', ...full],
    [...full, ...run],
  ])
    await expect(tune(...argv)).rejects.toThrow(OptionError)
  gpu.adopt({ maxBindingSize: 2 ** 16 })
  const long = ['--model', model, '--policy', 'fast', '--batch', '64']
  for (const argv of [
    ['plan', ...long],
    [...long, ...run],
  ])
    await expect(tune(...argv)).rejects.toThrow(GpuError)
  expect(gpu.buffersCreated).toBe(made)
})
