/** The loss head as a whole against the same in float64: labelled rows only, logits in chunks of rows, the head in pieces. 1e-4 relative to the largest value
 * (f32 sums over the vocabulary and the width). */
import { describe, expect, test } from 'vitest'
import { randn, relative, run, target } from '../../test/gpu.ts'
import { MODES, u32 } from '../../test/modes.ts'
import { tableChunks } from '../autograd/ops/embedding.ts'
import { asWeight } from '../autograd/ops/matmul.ts'
import { ScalarInput } from '../tensor/graph.ts'
import { headChunk, sftLoss } from './sft.ts'

const [ROWS, C, MOST] = [88, 32, 128]
const NONE = 0xffffffff

/** Labels of `count` rows, not in order of their rows. */
function labels(count: number, V: number) {
  const index = Array.from({ length: count }, (_, i) => (i * 37 + 5) % ROWS)
  const inverse = new Uint32Array(ROWS).fill(NONE)
  index.forEach((row, i) => (inverse[row] = i))
  return { index, inverse, targets: index.map((row) => (row * 53 + 11) % V) }
}

/** Sum of the losses, and the gradients of scale times it. */
function reference(hidden: Float32Array, head: Float32Array, V: number, at: ReturnType<typeof labels>, scale: number, cap: number) {
  const dHidden = new Float64Array(ROWS * C)
  const dHead = new Float64Array(V * C)
  let loss = 0
  at.index.forEach((row, i) => {
    const raw = Float64Array.from({ length: V }, (_, v) => {
      let dot = 0
      for (let c = 0; c < C; c++) dot += hidden[row * C + c] * head[v * C + c]
      return dot
    })
    const z = cap ? raw.map((l) => cap * Math.tanh(l / cap)) : raw
    const top = Math.max(...z)
    const lse = top + Math.log(z.reduce((s, l) => s + Math.exp(l - top), 0))
    loss += lse - z[at.targets[i]]
    for (let v = 0; v < V; v++) {
      const slope = cap ? 1 - (z[v] / cap) ** 2 : 1
      const d = scale * slope * (Math.exp(z[v] - lse) - (v === at.targets[i] ? 1 : 0))
      for (let c = 0; c < C; c++) {
        dHidden[row * C + c] += d * head[v * C + c]
        dHead[v * C + c] += d * hidden[row * C + c]
      }
    }
  })
  return { loss, dHidden, dHead }
}

interface Case {
  readonly V: number
  readonly count: number
  readonly pieces?: number
  readonly trained?: boolean
  readonly softcap?: number
}
const CASES: readonly Case[] = [
  // Two chunks of rows, the second of 13; a third that is empty.
  { V: 700, count: 45 },
  { V: 700, count: 45, trained: true },
  { V: 700, count: 32, softcap: 3 },
  { V: 700, count: 70, pieces: 3 },
  { V: 700, count: 45, pieces: 3, softcap: 3 },
  // No multiple of a vec4.
  { V: 333, count: 33 },
  { V: 333, count: 33, trained: true },
  { V: 700, count: 1 },
  { V: 700, count: 0 },
]

describe.each(MODES.filter((m) => m.spare === 0))('$name', ({ traits }) => {
  test.each(CASES)('%o', async ({ V, count, pieces = 1, trained = false, softcap = 0 }) => {
    const hidden = randn([ROWS, C], 1)
    const weight = randn([V, C], 2, 0.4)
    const at = labels(count, V)
    const scale = 1 / Math.max(1, count)
    const small = { ...target, ...traits, ...(pieces > 1 && { maxBindingSize: 256 * C * 4 }) }
    const seen: number[] = []
    const out = await run(({ g, leaf }) => {
      const x = leaf([ROWS, C], hidden, { grad: true })
      const head = asWeight(leaf([V, C], weight, { grad: trained }))
      seen.push(tableChunks(head).length)
      const padded = (values: readonly number[]) => u32([...values, ...Array<number>(MOST - values.length).fill(0)])
      const lossSum = leaf([1], new Float32Array(1))
      const rows = { index: leaf([MOST], padded(at.index)), inverse: leaf([ROWS], at.inverse), targets: leaf([MOST], padded(at.targets)) }
      sftLoss(x, head, { ...rows, count: new ScalarInput(count), scale: new ScalarInput(scale), lossSum }, { headRows: 32, softcap })
      const logits = g.tensors.filter((t) => t.op === 'logits')
      expect(logits.map((t) => t.shape[0])).toEqual([32, 32, 32, 32])
      return { lossSum, dHidden: x.sink!, dHead: trained ? head.data.sink! : x.sink! }
    }, small)
    expect(seen).toEqual([pieces])
    const want = reference(hidden, weight, V, at, scale, softcap)
    expect(Math.abs(out.lossSum[0] - want.loss)).toBeLessThanOrEqual(1e-4 * Math.max(1, want.loss))
    if (count === 0) expect([...out.dHidden].every((v) => v === 0)).toBe(true)
    else expect(relative(out.dHidden, want.dHidden)).toBeLessThan(1e-4)
    if (trained) expect(relative(out.dHead, want.dHead)).toBeLessThan(1e-4)
  })
})

test('rows of logits at once: about 32 MB of them, in multiples of 64, at least 64 and at most the labels', () => {
  expect(headChunk(49152, 512)).toBe(128)
  expect(headChunk(262144, 512)).toBe(64)
  expect(headChunk(512, 512)).toBe(512)
  expect(headChunk(49152, 512, 32)).toBe(32)
  expect(headChunk(49152, 8)).toBe(8)
})
