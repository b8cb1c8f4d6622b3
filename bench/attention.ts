/** @file Attention from naive to best: forward, its gradient by q, and by k and v, of SmolLM2's heads. */
import { attention } from '../src/autograd/ops/attention.ts'
import { backward } from '../src/autograd/backward.ts'
import { type Gpu, targetOf } from '../src/gpu/device.ts'
import type { TargetTraits } from '../src/tensor/graph.ts'
import { climb, type Climb, type Ladder, type Pass, type Rung, type Work } from './ladder.ts'
import { MeasuredGraph, type Words } from './measured_graph.ts'
import { random } from './model.ts'
import { type AttentionShape, naiveAttention, splitGradient, widthOf } from './naive_attention.ts'
import { arithmeticRates, type Peak } from './peak.ts'
import { unknownTarget } from './programs.ts'
import type { Row } from './report.ts'

const HEADS = { heads: 9, kvHeads: 3, headDim: 64 } as const
const LENGTHS: readonly number[] = [1024, 4096]
/** The naive gradient by k and v is one dispatch: it may take less than an operating system waits for, in milliseconds, and not minutes on a software adapter. */
const LONGEST_MS = 500
/** Sums of a thousand f32 terms in other orders, softmax by exp2 or by exp. */
const TOLERANCE = 1e-4

/** Products of a pass with a head's rows, each over the half of all pairs that is causal. */
const PRODUCTS = { forward: 2, dq: 3, dkv: 4 } as const

/** The engine's kernels on `target`; what is traced are the three passes. */
async function engineAttention(gpu: Gpu, target: TargetTraits, s: AttentionShape, qkv: Words, dout: Words): Promise<Work> {
  const measured = new MeasuredGraph(gpu, target)
  const { tokens, heads, headDim } = s
  const x = measured.leaf('qkv', [tokens, widthOf(s)], qkv, true)
  const starts = measured.leaf('starts', [tokens], new Uint32Array(tokens))
  const out = attention(x, { ...s, scale: 1 / Math.sqrt(headDim), starts, batch: 1, tokens })
  const [dqkv] = backward(out, measured.leaf('dout', [tokens, heads * headDim], dout), [x])
  const { runs, read } = await measured.apart()
  return {
    runs,
    results: async () => splitGradient(s, await read(out), await read(dqkv!)),
    dispose: () => {
      measured.dispose()
    },
  }
}

/** Rungs `naive`, `etude` and, where that is by subgroups, `etude-tile`. */
function ladder(gpu: Gpu, tokens: number, peak: Peak): Ladder {
  const s = { tokens, ...HEADS }
  const next = random(13)
  const [qkv, dout] = [widthOf(s), s.heads * s.headDim].map((width) => Float32Array.from({ length: tokens * width }, () => next() * 2 - 1))
  const rung = (engine: string, target: TargetTraits): Rung => ({ engine, make: () => engineAttention(gpu, target, s, qkv, dout) })
  const pairs = (tokens * (tokens + 1)) / 2
  const passes = (['forward', 'dq', 'dkv'] as const).map((pass): Pass => ({
    pass,
    tolerance: TOLERANCE,
    rates: (ms) => arithmeticRates(peak, PRODUCTS[pass] * 2 * s.headDim * pairs * s.heads, ms),
  }))
  const { software, subgroup } = gpu.traits
  return {
    ...{ case: 'attention', name: `${tokens} tokens`, passes },
    sizes: { seq: tokens, heads: s.heads, kv_heads: s.kvHeads, head_dim: s.headDim },
    rungs: [
      { engine: 'naive', make: () => naiveAttention(s, qkv, dout) },
      ...(software && subgroup > 0 ? [rung('etude-tile', unknownTarget(gpu))] : []),
      rung('etude', targetOf(gpu.traits)),
    ],
  }
}

/** Case `attention`, at growing lengths as long as the naive kernels end in time. */
export async function benchAttention(gpu: Gpu, o: Climb & { readonly peak: Peak; readonly lengths?: readonly number[] }): Promise<Row[]> {
  const rows: Row[] = []
  for (const tokens of o.lengths ?? LENGTHS) {
    const expected = rows.filter((r) => r.engine === 'naive').map((r) => r.ms * (tokens / r.seq!) ** 2)
    if (Math.max(...expected) > LONGEST_MS) break
    rows.push(...(await climb(ladder(gpu, tokens, o.peak), o)))
  }
  return rows
}
