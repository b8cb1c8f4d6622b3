/** The arithmetic of a step against counts made by hand. */
import { expect, test } from 'vitest'
import { benchBundle } from '../bench/etude.ts'
import { forwardFlops, lossFlops, stepFlops } from '../bench/flops.ts'
import { makeWeights } from '../bench/model.ts'
import config from './configs/smollm2-135m.json'
import { openBundle } from '../src/train/bundle.ts'
import { randomModel } from '../src/train/random_model.ts'

test('SmolLM2-135M, LoRA r=8, 1×256 tokens', () => {
  const T = 256
  // q, k, v, o, gate, up, down of each of 30 layers; both directions, but none below the first layer's q, k and v.
  const layer = 576 * 576 * 2 + 576 * 192 * 2 + 576 * 1536 * 3
  const linears = 2 * T * (2 * 30 * layer - 576 * 960)
  const head = 2 * 2 * T * 576 * 49152
  const lora = 3 * 2 * T * 8 * 30 * (2 * 1152 + 2 * 768 + 3 * 2112)
  // 9 heads of 64; half of T × T; 2 products forward, 5 backward, 2 operations each.
  const attention = 30 * 7 * 2 * 0.5 * T * T * 576
  const counted = stepFlops(openBundle(randomModel(config, 'smollm2')), { batch: 1, seq: T, labelled: T, rank: 8 })
  expect(counted).toBe(linears + head + lora + attention)
  expect(counted / 1e9).toBeCloseTo(149, 0)
})

test('SmolLM2-135M reads a prompt of 256 tokens', () => {
  const layer = 576 * 576 * 2 + 576 * 192 * 2 + 576 * 1536 * 3
  // Attention: 2 products, 2 operations each, half of T × T.
  const byHand = 2 * 256 * 30 * layer + 2 * 576 * 49152 + 30 * 2 * 256 * 256 * 576
  expect(forwardFlops(openBundle(randomModel(config, 'smollm2')), 256)).toBe(byHand)
})

test('the bench model is about 8.1 GFLOP a step', async () => {
  const counted = stepFlops(await benchBundle(makeWeights()), { batch: 4, seq: 128, labelled: 508, rank: 8 })
  expect(counted / 1e9).toBeGreaterThan(7.5)
  expect(counted / 1e9).toBeLessThan(8.5)
})

test('the bench model’s forward pass', async () => {
  // q, k, v, o, gate, up and down of 4 layers; the head over the 127 labelled tokens of a row; 4 heads of 64, half of T × T, 2 products.
  const layer = 256 * 256 * 4 + 256 * 688 * 3
  const byHand = 2 * 512 * 4 * layer + 2 * 508 * 256 * 1024 + 4 * 4 * 2 * 2 * 0.5 * 128 * 128 * 256
  expect(lossFlops(await benchBundle(makeWeights()), { batch: 4, seq: 128, labelled: 508 })).toBe(byHand)
})
