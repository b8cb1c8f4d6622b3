/** Exact counters of a LoRA step of the bench model (d=256, 4 layers, sequence 128, batch 4, r=8 on all 7 projections). */
import { expect, test } from 'vitest'
import { create } from '../bench/etude.ts'
import { makeBatch, makeWeights } from '../bench/model.ts'
import { gpu } from './gpu.ts'

test('a LoRA step keeps to its budget of dispatches, submits and bytes', async () => {
  const before = { bytes: gpu.allocatedBytes, buffers: gpu.buffersCreated }
  const { trainer, step, plannedBytes, dispose } = await create(makeWeights(), 'lora', gpu)
  const { program } = trainer
  try {
    expect(program.dispatches).toBeLessThanOrEqual(150)
    expect(plannedBytes).toBeLessThanOrEqual(80e6)
    expect(gpu.allocatedBytes - before.bytes).toBe(plannedBytes)
    const first = await step(makeBatch(1))
    expect(trainer.submits).toBeLessThanOrEqual(2)
    const made = gpu.buffersCreated
    const losses = [first, await step(makeBatch(1)), await step(makeBatch(1))]
    expect(gpu.buffersCreated, 'buffers made after the first step').toBe(made)
    expect(losses[2]).toBeLessThan(losses[0])
    // Nothing writes a gradient as large as a frozen weight: gradients of parameters are the adapter's alone.
    const micro = trainer.session.program('micro').graph
    const adapter = new Set(program.t.trained!.storages())
    const sinks = micro.calls.flatMap((c) => Object.entries(c.buffers).filter(([, t]) => t.storage?.label.startsWith('gradients')))
    expect(sinks.length).toBeGreaterThan(0)
    expect(sinks.every(([, t]) => adapter.has(t.storage!))).toBe(true)
    const weightGradients = micro.calls.filter(
      (c) => c.flags.includes('layout_tn') && Number(c.uniforms.N) * Number(c.uniforms.M) >= 256 * 256,
    )
    expect(weightGradients.length, 'weight-gradient dispatches of frozen weights').toBe(0)
    console.log(`LoRA step: ${program.dispatches} dispatches, ${trainer.submits} submits, planned ${(plannedBytes / 1e6).toFixed(1)} MB`)
  } finally {
    dispose()
  }
  expect(gpu.allocatedBytes).toBe(before.bytes)
})
