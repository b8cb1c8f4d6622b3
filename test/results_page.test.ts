/** The results page against a report made here: every figure of it is found where it belongs, and charts are well-formed. */
import { expect, test } from 'vitest'
import { barChart, lineChart } from '../bench/charts.ts'
import type { Proof } from '../bench/proof_page.ts'
import { rateRow, type Row, withoutTime } from '../bench/report.ts'
import { resultsPage } from '../bench/results_page.ts'

const step = (engine: string, ms: number, first_loss = 7): Row => ({ ...rateRow('lora-step', engine, ms, {}), tokens_per_s: 1, first_loss })
const product = (engine: string, dtype: string, gflops: number): Row =>
  rateRow('matmul', engine, 1, { m: 256, n: 576, k: 576, layout: 'nt', dtype, gflops, peak_gflops: 70, percent_of_peak: gflops / 0.7 })
const rows: Row[] = [
  rateRow('peak-fma', 'adapter', 1, { gflops: 70 }),
  rateRow('peak-copy', 'adapter', 1, { gb_per_s: 8 }),
  step('etude', 200),
  step('tfjs', 1500),
  step('jax-js', 1300, 63),
  product('naive', 'f32', 2.8),
  product('etude', 'q4_1', 42.5),
  { ...rateRow('smollm2-lora-1x128', 'etude', 3456, { batch: 1, seq: 128, base: 'keep', weights: 'real' }), tokens_per_s: 37 },
  { ...rateRow('smollm2-prefill', 'etude', 2133, { seq: 256, gflops: 28, percent_of_peak: 40 }), tokens_per_s: 120 },
  {
    ...rateRow('smollm2-decode', 'etude', 50, { gb_per_s: 4, percent_of_peak: 50, dispatches: 243, submits: 1, base: 'keep' }),
    tokens_per_s: 20,
  },
  { ...rateRow('smollm2-decode', 'etude', 106, { gb_per_s: 5, dispatches: 243, base: 'f32' }), tokens_per_s: 9 },
  { ...rateRow('smollm2-decode-floor', 'etude', 6, { seq: 1 }), dispatches: 243, submits: 1 },
  { ...rateRow('smollm2-decode', 'etude-dot', 40, { gb_per_s: 5, percent_of_peak: 62 }), tokens_per_s: 25 },
  withoutTime('memory', {
    model: 'SmolLM2-135M',
    policy: 'lean',
    base: 'nf4',
    batch: 1,
    seq: 512,
    planned_bytes: 198e6,
    allocated_bytes: 198e6,
  }),
  rateRow('sweep-rank', 'etude', 210, { batch: 4, seq: 128, rank: 2 }),
  rateRow('sweep-rank', 'etude', 230, { batch: 4, seq: 128, rank: 8 }),
]
const proof: Proof = {
  machine: 'a machine',
  adapter: 'an adapter',
  model: 'SmolLM2-135M-Instruct',
  data: 'rows',
  run: { steps: 120, batch: 4, seq: 128, lr: 1e-3, r: 8, alpha: 16 },
  evals: [
    { step: 0, loss: 4.531 },
    { step: 120, loss: 3.65 },
  ],
  ms_per_step: 4000,
  allocated: '690 MB',
  samples: [{ prompt: 'Define "a|b".', before: 'One\nline <tag>.', after: 'Two.' }],
  peft: {
    versions: { peft: '1' },
    prompts: 8,
    max_logit_difference: 1e-4,
    largest_logit: 20,
    tolerance: 0.02,
    loss_before: 4.531,
    loss_after: 3.6501,
    loss_tolerance: 0.002,
  },
}
const page = resultsPage({ reports: new Map([['box', { machine: 'a box', adapter: 'a GPU', rows }]]), proof })

test('figures, and what follows from them', () => {
  const text = page.get('results.md') ?? ''
  for (const part of [
    'a box',
    '70.0 GFLOP/s',
    '200 ms, 6.5 times as fast as jax-js (1300 ms, and its loss is wrong on this adapter: 63.00 instead of 7.00)',
    'A prompt of 256 tokens: 120 tokens/s, 28.0 GFLOP/s (40 % of the peak).',
    'A new token: 20.0 a second, 243 dispatches in one submit; its weights are read at 4.0 GB/s (50 % of a copy',
    'Of that, dispatches take 6.0 of 50.0 ms',
    'By what the weights are stored as: keep 50 ms for 200 MB (220 µs a MB beyond dispatches), f32 106 ms for 530 MB (189 µs a MB beyond dispatches).',
    'A new token with packed products of whole numbers: 25.0 a second.',
    '3456',
    '| SmolLM2-135M, lean | 198 | 198 |',
  ])
    expect(text).toContain(part)
  expect(text).toContain('| 120 | 3.650 | 3.645 |')
  // Text of a model cannot break out of its cell.
  expect(text).toContain('| Define "a\\|b". | One line \\<tag\\>. | Two. |')
})

test('every chart that the page shows is made, and nothing else', () => {
  const shown = [...(page.get('results.md') ?? '').matchAll(/\]\((results\/[^)]+)\)/g)].map((m) => m[1])
  expect(shown.sort()).toEqual([...page.keys()].filter((k) => k !== 'results.md').sort())
  expect(page.get('results/box-roofline.svg')).toContain('42.5 (61 %)')
})

test('charts escape text, stay within their frame, and put larger values further out', () => {
  const bars = barChart('a < b & c', [2, 1].map((value) => ({ label: '"x"', value, text: '', tone: 0 }))) // prettier-ignore
  expect(bars).toContain('a &lt; b &amp; c')
  const [wide, narrow] = [...bars.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map((m) => Number(m[1]))
  expect(narrow).toBeCloseTo(wide / 2)
  const lines = lineChart('t', [{ name: 'n', tone: 0, points: [[1, 1], [4, 16], [2, 4]] }], { label: 'x', log: true }, { label: 'y', log: true }) // prettier-ignore
  const dots = [...lines.matchAll(/cx="([\d.-]+)" cy="([\d.-]+)"/g)].map((m) => [Number(m[1]), Number(m[2])])
  // Logarithmic: the middle point lies in the middle of both axes.
  expect(dots[2][0]).toBeCloseTo((dots[0][0] + dots[1][0]) / 2, 0)
  expect(dots[2][1]).toBeCloseTo((dots[0][1] + dots[1][1]) / 2, 0)
  expect(dots.flat().every((v) => v >= 0 && v <= 760)).toBe(true)
})
