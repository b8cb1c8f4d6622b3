/** The bench's tables: each kind of row says what it measured, and where it stands. */
import { expect, test } from 'vitest'
import { rateRow, type Row, withoutTime } from '../bench/report.ts'
import { benchTables } from '../scripts/bench_table.mjs'

const step = (engine: string, ms: number): Row => ({
  ...rateRow('lora-step', engine, ms, { rounds: 7, first_loss: 7 }),
  tokens_per_s: 100,
})

test('rows', () => {
  const rows = [
    rateRow('peak-fma', 'adapter', 5, { gflops: 150, by: '12 chains of f32', rounds: 5 }),
    rateRow('tuning', 'etude', 2100, { rounds: 1, choices: { 'nt packed many': 'tile 64×64×16, 4×4 each' }, notes: ['Weights in 16 bits: off.'] }),
    rateRow('matmul', 'etude', 2, { m: 256, n: 576, k: 576, layout: 'nt', dtype: 'q4_k', gflops: 50, percent_of_peak: 33.4, rounds: 7 }),
    rateRow('attention', 'naive', 500, { pass: 'dq', seq: 1024, heads: 9, kv_heads: 3, head_dim: 64, gflops: 2, percent_of_peak: 1, rounds: 4 }),
    rateRow('norm', 'etude', 20, { pass: 'forward', m: 8192, n: 2048, gb_per_s: 6, percent_of_peak: 40, rounds: 7 }),
    rateRow('cross-entropy', 'etude', 20, { m: 256, n: 49152, gb_per_s: 6, percent_of_peak: 40, rounds: 7 }),
    rateRow('adamw', 'etude', 15, { n: 4194304, gb_per_s: 10, percent_of_peak: 60, rounds: 7 }),
    rateRow('adamw', 'etude', 12, { pass: 'update', n: 4194304, gb_per_s: 11, percent_of_peak: 67, rounds: 7 }),
    step('etude', 200),
    step('jax-js', 1300),
    { ...rateRow('sweep-rank', 'etude', 210, { batch: 4, seq: 128, rank: 2, base: 'f32', rounds: 5 }), tokens_per_s: 2400 },
    withoutTime('memory', { model: 'SmolLM2-135M', policy: 'lean', base: 'nf4', batch: 1, seq: 512, planned_bytes: 198e6, allocated_bytes: 198e6 }),
  ] // prettier-ignore
  const text = benchTables(rows)
  for (const line of [
    'Tuned in 2100 ms: nt packed many: tile 64×64×16, 4×4 each.\nWeights in 16 bits: off.',
    '| peak-fma (12 chains of f32) | adapter | 5.000 | 5 | 150.0 |  |  |',
    '| matmul nt 256x576x576 q4_k | etude | 2.000 | 7 | 50.0 |  | 33 % |',
    '| attention dq, 1024 tokens, 9 heads on 3 of 64 | naive | 500.000 | 4 | 2.0 |  | 1 % |',
    '| norm forward 8192x2048 | etude | 20.000 | 7 |  | 6.0 | 40 % |',
    '| cross-entropy 256x49152 | etude | 20.000 | 7 |  | 6.0 | 40 % |',
    '| adamw 4194304 | etude | 15.000 | 7 |  | 10.0 | 60 % |',
    '| adamw update 4194304 | etude | 12.000 | 7 |  | 11.0 | 67 % |',
    '| lora-step | etude | 200.0 | 7 | 100 |',
    'lora-step: etude is 6.50 times as fast as jax-js.',
    '| sweep-rank | f32 |  | 4x128 | 2 | 210 | 5 | 2400 |',
    // Nothing was run.
    '| memory, SmolLM2-135M | nf4 | lean | 1x512 |  |  |  |  |',
  ])
    expect(text).toContain(line)
  expect(text.match(/tuning/g)).toBeNull()
})

test('without tuning nothing is said of it', () => {
  expect(benchTables([rateRow('peak-copy', 'adapter', 9, { gb_per_s: 16 })])).not.toMatch(/Tuned/)
})
