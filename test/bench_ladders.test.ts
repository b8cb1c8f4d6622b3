/** The kernels of the bench from naive to best, on small sizes: rungs agree, and a rung that does not is reported. */
import { beforeAll, expect, test } from 'vitest'
import { benchAttention } from '../bench/attention.ts'
import { benchCrossEntropy, benchNorm, benchUpdate } from '../bench/byte_kernels.ts'
import { benchDevice } from '../bench/device.ts'
import { climb, offBy, type Rung } from '../bench/ladder.ts'
import { engineAdamW, engineMatmul, unknownTarget } from '../bench/programs.ts'
import { type Peak } from '../bench/peak.ts'
import { benchWeight } from '../bench/weights.ts'
import { gpu, randn, target } from './gpu.ts'

const peak: Peak = { gflops: 100, gbPerSecond: 10, rows: [] }
const options = () => ({ rounds: 1, peak, say: () => undefined, problems: [] as string[] })

beforeAll(() => benchDevice(testGpu))

test('attention: naive, tile and the kernels that are used agree on each pass', async () => {
  const o = options()
  const rows = await benchAttention(gpu, { ...o, lengths: [70] })
  expect(o.problems).toEqual([])
  const engines = target.software && target.subgroup > 0 ? ['naive', 'etude-tile', 'etude'] : ['naive', 'etude']
  expect(rows.map((r) => `${r.pass} ${r.engine}`)).toEqual(['forward', 'dq', 'dkv'].flatMap((pass) => engines.map((e) => `${pass} ${e}`)))
  for (const r of rows) {
    expect(r).toMatchObject({ case: 'attention', seq: 70, heads: 9, kv_heads: 3, head_dim: 64, peak_gflops: 100, rounds: 1 })
    // 35 × 71 pairs, of which each of 9 heads takes 2, 3 or 4 products of 64 in a pass.
    const products = { forward: 2, dq: 3, dkv: 4 }[r.pass as 'forward' | 'dq' | 'dkv']
    expect(r.gflops! * r.ms * 1e6).toBeCloseTo(products * 2 * 64 * 35 * 71 * 9, 0)
    expect(r.percent_of_peak).toBeCloseTo(r.gflops!)
  }
})

test('norms, cross-entropy and the optimizer: naive and the kernels that are used agree', async () => {
  const o = options()
  const rows = [
    ...(await benchNorm(gpu, [37, 72], o)),
    ...(await benchCrossEntropy(gpu, [5, 300], o)),
    ...(await benchUpdate(gpu, 4096, o)),
  ]
  expect(o.problems).toEqual([])
  const bytes = { 'norm forward': 2 * 37 * 72, 'norm backward': 3 * 37 * 72, 'cross-entropy': 2 * 1500, 'adamw update': 8 * 4096 }
  for (const [name, floats] of Object.entries(bytes)) {
    const found = rows.filter((r) => [r.case, r.pass].filter(Boolean).join(' ') === name)
    expect(found.map((r) => r.engine)).toEqual(['naive', 'etude'])
    for (const r of found) expect(r.gb_per_s! * r.ms * 1e6).toBeCloseTo(4 * floats, 0)
  }
})

test('a product is computed as often as it is asked for, and the time is that of its submit', async () => {
  const [M, N, K] = [20, 64, 512]
  const a = randn([M, K], 1)
  const weight = benchWeight('q4_k', N * K, 5)
  const matmul = await engineMatmul(gpu, unknownTarget(gpu), 'nt', { M, N, K }, a, { format: 'q4_k', weight })
  const began = performance.now()
  const ms = await matmul.time(3)
  expect(ms).toBeGreaterThan(0)
  expect(ms).toBeLessThan(performance.now() - began)
  const expected = Float32Array.from({ length: M * N }, (_, i) => {
    let sum = 0
    for (let k = 0; k < K; k++) sum += a[Math.floor(i / N) * K + k] * weight.values[(i % N) * K + k]
    return sum
  })
  expect(offBy(await matmul.read(), expected)).toBeLessThan(weight.tolerance)
  matmul.dispose()
})

test('the optimizer step is measured as a whole', async () => {
  const adamw = await engineAdamW(gpu, 4096)
  await adamw.run(2)
  expect(adamw.bytes).toBe(9 * 4 * 4096)
  adamw.dispose()
})

test('a rung with another result, or that fails, is a problem and leaves the others', async () => {
  const o = options()
  const rung = (engine: string, value: number): Rung => ({
    engine,
    make: async () => ({ runs: [async () => 30], results: async () => [Float32Array.of(1, value)], dispose: () => undefined }),
  })
  const broken: Rung = {
    engine: 'broken',
    make: async () => {
      throw new Error('no such kernel')
    },
  }
  const ladder = {
    ...{ case: 'norm', name: '1x2', sizes: { m: 1, n: 2 }, passes: [{ tolerance: 1e-3, rates: () => ({ gflops: 1 }) }] },
    rungs: [{ ...rung('naive', 2), untimed: true }, rung('wrong', 2.1), broken, rung('nothing', NaN), rung('right', 2.0001)],
  }
  const rows = await climb(ladder, o)
  expect(rows.map((r) => r.engine)).toEqual(['wrong', 'nothing', 'right'])
  expect(o.problems).toEqual([
    expect.stringMatching(/^norm 1x2, wrong: result off by 0\.04/),
    'norm 1x2, broken: no such kernel',
    'norm 1x2, nothing: result off by NaN',
  ])
})
