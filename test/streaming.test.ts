/** A model of 2 GB whose bytes are made up as they are read: memory while it loads, progress, and what is left when loading is cancelled or fails. */
import { afterEach, describe, expect, test } from 'vitest'
import { openModel } from '../src/io/model_files.ts'
import type { ByteSource, FileSet } from '../src/io/source.ts'
import { fromBytes } from '../src/io/sources.ts'
import type { Json } from '../src/models/family.ts'
import { familyOf } from '../src/models/registry.ts'
import { lora } from '../src/peft/lora.ts'
import { type ModelBundle, openBundle, paramShape, tensorName } from '../src/train/bundle.ts'
import { TunableLayout } from '../src/train/tunable.ts'
import { DeviceMemory } from './device_memory.ts'
import { gpu } from './gpu.ts'
import { TINY } from './tiny.ts'

const MB = 1e6
/** Llama-3.2-1B's shapes with four layers, in f32: 2.02 GB. */
const CONFIG = {
  ...TINY,
  vocab_size: 128_256,
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 4,
  num_attention_heads: 32,
  num_key_value_heads: 8,
}

interface Reads {
  longest: number
  /** Largest of what ArrayBuffers took whenever something was read, garbage that was not collected yet included. */
  memory: number
}

/** A safetensors file whose data repeat a small pattern of f32 values. */
function endlessFiles(fields: Json, reads: Reads, onRead: (offset: number) => void = () => undefined): FileSet {
  const family = familyOf(fields)
  const entries: Record<string, unknown> = {}
  let end = 0
  for (const p of family.params(family.readConfig(fields))) {
    const shape = paramShape(p)
    const bytes = 4 * shape.reduce((a, b) => a * b, 1)
    entries[tensorName(p)] = { dtype: 'F32', shape, data_offsets: [end, (end += bytes)] }
  }
  const json = new TextEncoder().encode(JSON.stringify(entries))
  const head = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(32)
  new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true)
  head.set(json, 8)
  const pattern = new Uint8Array(Float32Array.from({ length: 2 ** 16 }, (_, i) => 0.02 * Math.sin(i * i)).buffer)
  const size = head.length + end
  const source: ByteSource = {
    name: 'model.safetensors',
    size,
    read: async (offset, length) => {
      onRead(offset)
      const out = new Uint8Array(length)
      for (let at = 0; at < length;) {
        const from = offset + at
        const part = from < head.length ? head.subarray(from) : pattern.subarray((from - head.length) % pattern.length)
        out.set(part.subarray(0, length - at), at)
        at += Math.min(part.length, length - at)
      }
      reads.longest = Math.max(reads.longest, length)
      reads.memory = Math.max(reads.memory, process.memoryUsage().arrayBuffers)
      return out
    },
  }
  return new Map([
    ['config.json', fromBytes('config.json', new TextEncoder().encode(JSON.stringify(fields)))],
    ['model.safetensors', source],
  ])
}
const open = async (files: FileSet): Promise<ModelBundle> => openBundle(await openModel(files, 'endless'))
const layout = (b: ModelBundle, base: 'nf4' | 'keep' = 'nf4'): TunableLayout =>
  new TunableLayout(b, null, {}, { base, seed: 0, trainable: false, maxBindingSize: gpu.traits.maxBindingSize })

let memory: DeviceMemory | null = null
afterEach(() => {
  memory?.restore()
  memory = null
})

test('2 GB become 4-bit weights in less than 300 MB of JavaScript memory, with progress', { timeout: 600_000 }, async () => {
  const reads: Reads = { longest: 0, memory: 0 }
  const bundle = await open(endlessFiles(CONFIG, reads))
  expect(bundle.files.fileBytes).toBeGreaterThan(2000 * MB)
  const before = process.memoryUsage().arrayBuffers
  reads.memory = 0
  memory = new DeviceMemory(gpu)
  const t = layout(bundle)
  const told: number[] = []
  await t.fill(gpu, { onProgress: (done) => told.push(done) })
  expect(reads.memory - before).toBeLessThan(300 * MB)
  expect(reads.longest).toBeLessThan(16 * MB)
  expect(memory.live).toBe(t.storages.reduce((n, s) => n + s.bytes, 0))
  // 4.14 bits of the layers' 243 million weights, 8.5 of the table's 263 million, which lie in buffers of at most 128 MiB.
  expect(memory.live / MB).toBeCloseTo((243.27 * 4.14 + 262.67 * 8.5) / 8, -1)
  expect(Math.max(...t.storages.map((s) => s.bytes))).toBeLessThanOrEqual(128 * 2 ** 20)
  expect(told.length).toBeGreaterThan(200)
  expect(told.every((v, i) => i === 0 || v >= told[i - 1])).toBe(true)
  expect(told.at(-1)).toBeGreaterThan(0.999 * bundle.files.fileBytes)
  t.destroy()
  expect(memory.live).toBe(0)
})

describe('an initialisation that takes something out of every weight', () => {
  // 487 MB of f32 are replaced: kept on the host, they alone would be too much.
  const two = { ...CONFIG, vocab_size: 4096, num_hidden_layers: 2 }
  const olora = (b: ModelBundle): TunableLayout =>
    new TunableLayout(
      b,
      lora,
      { init_lora_weights: 'olora', r: 1 },
      { base: 'nf4', seed: 0, trainable: true, maxBindingSize: gpu.traits.maxBindingSize },
    )

  test('less than 300 MB of JavaScript memory, progress through both passes, and a note', { timeout: 600_000 }, async () => {
    const reads: Reads = { longest: 0, memory: 0 }
    const bundle = await open(endlessFiles(two, reads))
    const t = olora(bundle)
    expect(t.notes).toEqual([expect.stringMatching(/^14 targeted layers are kept as f32 \(486\.5 MB\) whatever the base \(nf4\)/)])
    const before = process.memoryUsage().arrayBuffers
    reads.memory = 0
    const told: number[] = []
    let total = 0
    await t.fill(gpu, { onProgress: (done, all) => (told.push(done), (total = all)) })
    console.log(`at most ${((reads.memory - before) / MB).toFixed(0)} MB`)
    expect(reads.memory - before).toBeLessThan(300 * MB)
    expect(reads.longest).toBeLessThan(16 * MB)
    expect(total).toBe(bundle.files.fileBytes + t.adapter!.targetBytes)
    expect(told.every((v, i) => i === 0 || v >= told[i - 1])).toBe(true)
    expect(told.filter((v) => v < t.adapter!.targetBytes).length).toBeGreaterThan(100)
    expect(told.at(-1)).toBeGreaterThan(0.999 * total)
    t.destroy()
  })
  test('cancelled in the first pass, nothing was made', async () => {
    const t = olora(await open(endlessFiles(two, { longest: 0, memory: 0 })))
    const abort = new AbortController()
    memory = new DeviceMemory(gpu)
    const filling = t.fill(gpu, { signal: abort.signal, onProgress: () => abort.abort(new DOMException('enough', 'AbortError')) })
    await expect(filling).rejects.toThrow('enough')
    expect(memory.peak).toBe(0)
  })
})

test('cancelled half-way, loading ends with the reason and leaves no buffer', { timeout: 600_000 }, async () => {
  const reads: Reads = { longest: 0, memory: 0 }
  const small = { ...CONFIG, vocab_size: 4096, num_hidden_layers: 2 }
  const bundle = await open(endlessFiles(small, reads))
  memory = new DeviceMemory(gpu)
  const t = layout(bundle)
  const abort = new AbortController()
  const filling = t.fill(gpu, {
    signal: abort.signal,
    onProgress: (done, total) => {
      if (done > total / 2) abort.abort(new DOMException('enough', 'AbortError'))
    },
  })
  await expect(filling).rejects.toThrow('enough')
  expect(memory.peak).toBeGreaterThan(50 * MB)
  expect([memory.live, memory.buffers.size]).toEqual([0, 0])
  // The same layout can be filled afterwards.
  await t.fill(gpu)
  expect(memory.live).toBeGreaterThan(50 * MB)
  t.destroy()
  expect(memory.live).toBe(0)
})

test('a file that can no longer be read leaves no buffer', async () => {
  let fail = false
  const files = endlessFiles({ ...CONFIG, vocab_size: 4096, num_hidden_layers: 1 }, { longest: 0, memory: 0 }, (offset) => {
    if (fail && offset > 40 * MB) throw new Error('the disk is gone')
  })
  const bundle = await open(files)
  fail = true
  memory = new DeviceMemory(gpu)
  const t = layout(bundle, 'keep')
  await expect(t.fill(gpu)).rejects.toThrow('the disk is gone')
  expect(memory.peak).toBeGreaterThan(50 * MB)
  expect(memory.live).toBe(0)
})
