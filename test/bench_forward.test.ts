/** The bench's forward pass: one loss by Etude's evaluation, by its step and by the ONNX graph; another one is a problem. */
import * as ort from 'onnxruntime-web'
import { expect, test } from 'vitest'
import { create, createForward } from '../bench/etude.ts'
import { partings } from '../bench/forward.ts'
import { makeBatch, makeWeights } from '../bench/model.ts'
import { lossModel } from '../bench/peers/onnx_model.ts'
import { rateRow } from '../bench/report.ts'
import { gpu } from './gpu.ts'

const batch = makeBatch(1000)

/** Losses near 7, whose f32 sums are taken in another order: 1e-6 apart as a rule. */
const TOLERANCE = 1e-5

test('a forward pass has the loss that a step begins with, and leaves nothing behind', async () => {
  const before = gpu.allocatedBytes
  const forward = await createForward(makeWeights(), gpu)
  const trainer = await create(makeWeights(), 'lora', gpu)
  try {
    const loss = await forward.loss(batch)
    expect(Math.abs(loss - (await trainer.step(batch)))).toBeLessThan(TOLERANCE)
    // Another batch in between changes nothing.
    expect(await forward.loss(makeBatch(1001))).not.toBe(loss)
    expect(await forward.loss(batch)).toBe(loss)
  } finally {
    trainer.dispose()
    forward.dispose()
  }
  expect(gpu.allocatedBytes).toBe(before)
})

test('the ONNX graph computes the same loss on a CPU', async () => {
  ort.env.wasm.numThreads = 1
  const session = await ort.InferenceSession.create(lossModel(makeWeights()), { executionProviders: ['wasm'] })
  const forward = await createForward(makeWeights(), gpu)
  try {
    const { ids, labels, tokens } = batch
    const rows = labels.length
    const { loss } = await session.run({
      ids: new ort.Tensor('int32', ids, [rows]),
      labels: new ort.Tensor(
        'int32',
        labels.map((label) => Math.max(0, label)),
        [rows, 1],
      ),
      row_weights: new ort.Tensor(
        'float32',
        Float32Array.from(labels, (label) => (label < 0 ? 0 : 1 / tokens)),
        [rows, 1],
      ),
    })
    expect(Math.abs((loss.data as Float32Array)[0] - (await forward.loss(batch)))).toBeLessThan(TOLERANCE)
  } finally {
    forward.dispose()
    await session.release()
  }
})

test('a forward pass whose loss is not the steps’ is a problem', () => {
  const row = (name: string, engine: string, first_loss: number) => rateRow(name, engine, 1, { first_loss })
  const steps = [rateRow('peak-fma', 'adapter', 1, {}), row('lora-step', 'etude', 6.997)]
  const rows = [row('forward', 'etude', 6.9971), row('forward', 'tfjs', 6.9), row('forward', 'jax-js', NaN)]
  expect(partings(rows, steps)).toEqual([
    'forward, tfjs: loss 6.9, but lora-step of etude begins with 6.997',
    'forward, jax-js: loss NaN, but lora-step of etude begins with 6.997',
  ])
  expect(partings(rows, [])).toEqual([])
})
