/** The results page against a report made here: every figure of it is found where it belongs, and charts are well-formed. */
import { expect, test } from 'vitest'
import { barChart, lineChart } from '../bench/charts.ts'
import type { Report } from '../bench/page/report.ts'
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
const textOf = (report: Partial<Report>): string =>
  resultsPage({
    reports: new Map([['box', { machine: 'a box, 2 threads', adapter: 'llvmpipe: Mesa', rows: [], ...report }]]),
    proof: null,
  }).get('results.md') ?? ''

test('figures, and what follows from them', () => {
  const text = page.get('results.md') ?? ''
  for (const part of [
    'a box',
    '## a GPU',
    '70.0 GFLOP/s',
    '200 ms, 6.5 times as fast as jax-js (1300 ms), whose loss is wrong on this adapter: 63.00 instead of 7.00; 7.5 times as fast as TensorFlow.js (1500 ms), the fastest whose loss is right.',
    'A prompt of 256 tokens: 120 tokens/s, 28.0 GFLOP/s (40 % of the peak).',
    'A new token: 20.0 a second, 50.0 ms each, 243 dispatches in one submit; its weights are read at 4.0 GB/s (50 % of a copy',
    'takes 6.0 ms a token: that is what the dispatches take, 12 % of the token above',
    '| keep | 50.0 | 200 | 44.0 | 220 | 50 |',
    '| f32 | 106.0 | 530 | 100.0 | 189 | – |',
    'Weights limit a token here, not dispatches.',
    'a new token takes 40.0 ms instead of 50.0.',
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

test('goals are read off the adapter that they are set for', () => {
  const product = (dtype: string, gflops: number): Row =>
    rateRow('matmul', 'etude', 1, { m: 256, n: 576, k: 576, layout: 'nt', dtype, gflops })
  const measured = [product('f32', 30), product('f32', 24.9), product('q4_k', 36), product('q8_0', 20)]
  const text = textOf({ rows: measured })
  expect(text).toMatch(/f32 products of layers at 256 rows.*24\.9 to 30\.0 GFLOP\/s \| \*\*no\*\*/)
  expect(text).toMatch(/the same with 4-bit weights.*36\.0 GFLOP\/s \| yes/)
  expect(text).toMatch(/A LoRA step.*not measured/)
  expect(textOf({ rows: measured, machine: 'a box, 16 threads' })).toMatch(/f32 products of layers at 256 rows.*not measured/)
  expect(textOf({ rows: measured, adapter: 'SwiftShader' })).toMatch(/f32 products of layers at 256 rows.*not measured/)
  expect(text).toContain('## Software adapter lavapipe (2 CPU threads)')
  expect(text).toContain('no figure below is a GPU’s')
})

test('what bounds the LoRA step: its arithmetic at the rates of plain products, and at the peak', () => {
  const plain = (gflops: number): Row => rateRow('matmul', 'etude', 1, { m: 512, n: 256, k: 256, layout: 'nn', dtype: 'f32', gflops })
  const measured = [rows[0], plain(35), plain(40), { ...step('etude', 400), gflop: 7 }, step('tfjs', 1600)]
  expect(textOf({ rows: measured })).toContain(
    'reach 35.0 to 40.0 GFLOP/s on their own; at that rate the step’s arithmetic takes 175 to 200 ms, 8.0 to 9.1 times as fast as TensorFlow.js, and the measured step takes 2.0 to 2.3 times that; at the peak of multiply-adds it takes 100 ms, 16.0 times as fast',
  )
})

test('ladders, the forward pass, PyTorch, and what a file says of itself are shown where they are there', () => {
  const attention = (engine: string, ms: number, gflops: number): Row =>
    rateRow('attention', engine, ms, {
      gflops,
      percent_of_peak: gflops / 0.7,
      seq: 1024,
      heads: 9,
      kv_heads: 3,
      head_dim: 64,
      pass: 'dkv',
      rounds: 7,
    })
  const bytes = (name: string, engine: string, ms: number, gb_per_s: number): Row =>
    rateRow(name, engine, ms, { n: 4194304, gb_per_s, percent_of_peak: gb_per_s / 0.08 })
  const lora = (engine: string, base: string, ms: number): Row =>
    rateRow('smollm2-lora-1x128', engine, ms, { batch: 1, seq: 128, base, weights: 'real' })
  const text = textOf({
    date: '2026-01-02',
    commit: 'abc1234',
    rounds: 7,
    versions: { '@jax-js/jax': '0.1.25' },
    problems: ['lora step: first losses differ'],
    torch: 'a GPU; torch 2.13.0',
    rows: [
      ...rows.slice(0, 2),
      attention('naive', 40, 2),
      attention('etude-tile', 10, 8),
      attention('etude', 4, 20),
      bytes('adamw', 'naive', 20, 5),
      bytes('adamw', 'etude', 10, 10),
      rateRow('forward', 'etude', 50, { gflops: 40, percent_of_peak: 57, first_loss: 7 }),
      rateRow('forward', 'onnxruntime-web', 400, { gflops: 5, percent_of_peak: 7, first_loss: 7 }),
      rateRow('tuning', 'etude', 2500, { choices: { 'nt floats': 'tile 64×64×16' }, notes: ['a path is off'] }),
      lora('etude', 'keep', 1500),
      lora('torch', 'f32', 3000),
      lora('torch', 'bf16', 750),
    ],
  })
  for (const part of [
    '| attention, gradient by k and v, 1024 tokens | 2.0 | 8.0 | 20.0 | 29 | 10.0 |',
    '| optimizer step (norm, clip, AdamW), 4,194,304 parameters | 5.0 | 10.0 | 125 | 2.0 |',
    'can pass 100 %',
    'GFLOP/s, 9 heads of q on 3 of k and v, each 64 wide:',
    '| onnxruntime-web | 400.0 | 5.0 | 7 | 8.0 | 7.0000 |',
    'by PyTorch, Transformers and PEFT (a GPU; torch 2.13.0)',
    '| 1×128, base keep | 1500 | 3000 | 2.0 | 750 | 0.5 |',
    'Measured on 2026-01-02 at commit abc1234, with jax-js 0.1.25.',
    'rounds: 7 (kernels)',
    'Tuned in 2.5 s: nt floats by tile 64×64×16.',
    'a path is off',
    '- lora step: first losses differ',
  ])
    expect(text).toContain(part)
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
