/** @file A small known answer for each optional path of a device: what is computed, and what the device does without where the answer is wrong. */
import { backward } from '../autograd/backward.ts'
import { attention } from '../autograd/ops/attention.ts'
import { linear, lowRankLinear } from '../autograd/ops/linear.ts'
import { asWeight, matmul } from '../autograd/ops/matmul.ts'
import { gradNorm } from '../autograd/ops/optimizer.ts'
import { add } from '../autograd/ops/pointwise.ts'
import { type GpuTraits, targetOf } from '../gpu/device.ts'
import type { TargetTraits, TunedMatmul } from '../gpu/kernel.ts'
import { toF16 } from '../io/float16.ts'
import { NF4_CODE } from '../io/pack/nf4.ts'
import { matmulCandidates, tunedTo } from '../kernels/matmul.ts'
import { roundedToBytes } from '../kernels/matmul_vec.ts'
import type { Graph, Shape, Tensor } from '../tensor/graph.ts'
import type { Weight } from '../tensor/weight.ts'
import { attended, lowRank, product, values } from './known_answers.ts'

type F32 = Float32Array<ArrayBuffer>
type Words = Uint32Array<ArrayBuffer>
export interface Trial {
  readonly g: Graph
  /** `grad`: its gradient collects in `sink`. */
  readonly leaf: (shape: Shape, values: F32 | Words, o?: { grad: boolean }) => Tensor
}
export interface Answer {
  readonly out: Tensor
  readonly want: ArrayLike<number>
}
export interface PathCheck {
  /** As the device panel says it: "… gave wrong results". */
  readonly label: string
  /** What the device does without, where the answer is wrong. */
  readonly off: Partial<GpuTraits>
  readonly target: TargetTraits
  /** Traces the path; returns what it computes and what that must be. */
  readonly build: (t: Trial) => readonly Answer[]
}

/** A product as if the device had been tuned to one choice: of a tile and more, so that no smaller one is taken. */
function matmulCheck(target: TargetTraits, choice: TunedMatmul, label: string, off: Partial<GpuTraits>): PathCheck {
  const [M, N, K] = choice.family === 'sgk' ? [19, 72, 40] : [choice.BM + 3, choice.BN + 8, 40]
  const [a, b] = [values(M * K, 1, 23), values(N * K, 2, 23)]
  return {
    label,
    off,
    target: { ...target, matmuls: tunedTo(choice) },
    build: ({ leaf }) => [
      { out: matmul(leaf([M, K], a), leaf([N, K], b), { transB: true }), want: product(a, b, [M, N, K], { bAcross: true }) },
    ],
  }
}

/** A weight as it lies on the GPU, and the values that it stands for. */
interface Stored {
  readonly format: 'f32' | 'q4_0' | 'nf4'
  readonly data: F32 | Words
  readonly scales: Words | null
  readonly decoded: F32
}
/** Blocks of 32 signed numbers of `bits` bits, each block with an f16 scale. */
function blocks(bits: 4 | 8, N: number, K: number): { readonly data: Words; readonly scales: Words; readonly decoded: F32 } {
  const most = 2 ** (bits - 1)
  const scale = (block: number): number => (1 + (block % 3)) / (8 * most)
  const data = new Uint32Array((N * K * bits) / 32)
  const decoded = Float32Array.from({ length: N * K }, (_, i) => {
    const whole = ((i * 101 + (i >> 4)) % (2 * most)) - most
    data[(i * bits) >> 5] |= (bits === 4 ? whole + 8 : whole & 255) << ((i * bits) & 31)
    return scale(i >> 5) * whole
  })
  const scales = Uint32Array.from({ length: (N * K) / 64 }, (_, i) => toF16(scale(2 * i)) | (toF16(scale(2 * i + 1)) << 16))
  return { data, scales, decoded }
}
/** One record of 64 blocks of NF4 (shaders/lib/weights/scales.wesl): maxima are 1/2 + 1/4 of an entry of a map that is a straight line. */
function nf4(N: number, K: number): Stored {
  const code = (i: number): number => (i * 11 + (i >> 6)) % 16
  const byte = (block: number): number => (block * 29) % 256
  const data = new Uint32Array((N * K) / 8)
  const decoded = Float32Array.from({ length: N * K }, (_, i) => {
    data[i >> 3] |= code(i) << (4 * (i & 7))
    return NF4_CODE[code(i)] * (0.5 + (byte(i >> 6) - 128) / 512)
  })
  const scales = new Uint32Array(256 + 18)
  const [real, bytes] = [new Float32Array(scales.buffer), new Uint8Array(scales.buffer)]
  for (let i = 0; i < 256; i++) real[i] = (i - 128) / 128
  real.set([0.25, 0.5], 256)
  for (let block = 0; block < 64; block++) bytes[4 * 258 + block] = byte(block)
  return { format: 'nf4', data, scales, decoded }
}

const SIZES = { M: 19, N: 64, K: 64, r: 4 } as const
/** A frozen layer with a low-rank update, forward and backward: products in all three layouts, and what is joined with them. */
function layerCheck(target: TargetTraits, stored: Stored, label: string, off: Partial<GpuTraits>): PathCheck {
  const { M, N, K, r } = SIZES
  const [x, a, b, dy] = [values(M * K, 3, 61), values(r * K, 4, 61), values(N * r, 5, 61), values(M * N, 6, 61)]
  return {
    label,
    off,
    target,
    build({ leaf }) {
      const { format, data, scales, decoded } = stored
      const w: Weight =
        format === 'f32'
          ? asWeight(leaf([N, K], data))
          : { format, rows: N, cols: K, data: leaf([data.length], data), scales: scales && leaf([scales.length], scales) }
      const [input, down, up] = [leaf([M, K], x, { grad: true }), leaf([r, K], a, { grad: true }), leaf([N, r], b, { grad: true })]
      const y = lowRankLinear(input, w, down, up, { scale: 2, segments: [] })
      backward(y, leaf([M, N], dy))
      const want = lowRank({ x, w: decoded, a, b, dy, scale: 2, sizes: SIZES })
      return [
        { out: y, want: want.y },
        { out: input.sink!, want: want.dx },
        { out: down.sink!, want: want.da },
        { out: up.sink!, want: want.db },
      ]
    },
  }
}

const weights = (): Stored[] => {
  const { N, K } = SIZES
  const plain = values(N * K, 7, 61)
  return [{ format: 'f32', data: plain, scales: null, decoded: plain }, { format: 'q4_0', ...blocks(4, N, K) }, nf4(N, K)]
}
const NAMED = { f32: 'of f32', q4_0: 'of 4-bit blocks', nf4: 'of NF4' } as const

/** Packed products, of 4 unsigned and of 8 signed bits. What they must be is computed with activations rounded as the kernel rounds them, which lie far from
 * where rounding turns: a division may be off by a little. */
function dotChecks(traits: GpuTraits): PathCheck[] {
  if (!traits.dot) return []
  const [N, K] = [12, 64]
  const x = Float32Array.from({ length: K }, (_, i) => (i % 8 === 3 ? 127 : ((i * 37) % 253) - 126 + ((i % 3) - 1) / 4) / 128)
  return ([4, 8] as const).map((bits) => {
    const { data, scales, decoded } = blocks(bits, N, K)
    return {
      label: `Packed products with weights of ${bits} bits`,
      off: { dot: false },
      target: { ...targetOf(traits), dot: true },
      build: ({ leaf }) => [
        {
          out: linear(leaf([1, K], x), {
            ...{ format: bits === 4 ? 'q4_0' : 'q8_0', rows: N, cols: K },
            ...{ data: leaf([data.length], data), scales: leaf([scales.length], scales) },
          }),
          want: product(roundedToBytes(x), decoded, [1, N, K], { bAcross: true }),
        },
      ],
    }
  })
}

function subgroupChecks(target: TargetTraits): PathCheck[] {
  const off = { subgroup: 0 }
  const g = values(4096, 3)
  const norm = Math.sqrt(g.reduce((s, v) => s + v * v, 0))
  const sizes = { T: 13, D: 16, heads: 2 }
  const { T, D, heads } = sizes
  const [qkv, dout] = [values(T * (heads + 2) * D, 4), values(T * heads * D, 5)]
  return [
    matmulCheck(target, { family: 'sgk', TM: 8, V: 1 }, 'Matrix products by subgroups', off),
    ...weights().map((w) =>
      layerCheck({ ...target, matmuls: tunedTo({ family: 'sgk', TM: 8, V: 2 }) }, w, `Layers ${NAMED[w.format]} by subgroups`, off),
    ),
    {
      label: 'Sums over subgroups',
      off,
      target,
      build({ leaf }) {
        const stats = leaf([4], new Float32Array(4))
        gradNorm([leaf([g.length], g)], 0, stats)
        return [{ out: stats, want: [norm, 1, 0, 0] }]
      },
    },
    {
      label: 'Attention by subgroups',
      off,
      target,
      build({ leaf }) {
        const input = leaf([T, (heads + 2) * D], qkv, { grad: true })
        const starts = leaf([T], new Uint32Array(T))
        const out = attention(input, { heads, kvHeads: 1, headDim: D, scale: 1 / Math.sqrt(D), starts, batch: 1, tokens: T })
        backward(out, leaf([T, heads * D], dout))
        const want = attended({ qkv, dout, sizes })
        return [
          { out, want: want.out },
          { out: input.sink!, want: want.dqkv },
        ]
      },
    },
  ]
}

/** The path that every other one rests on. */
export function immediatesCheck(traits: GpuTraits): PathCheck[] {
  if (traits.immediates === 0) return []
  const [x, y] = [values(72, 7), values(72, 8)]
  return [
    {
      label: 'Uniforms as immediates',
      off: { immediates: 0 },
      target: targetOf(traits),
      build: ({ leaf }) => [{ out: add(leaf([72], x), leaf([72], y)), want: x.map((v, i) => v + y[i]) }],
    },
  ]
}

/** Every optional path that the device has. */
export function pathChecks(traits: GpuTraits): PathCheck[] {
  const { matmuls: _, ...target } = targetOf(traits)
  const fragments = matmulCandidates(target).find((c) => c.family === 'matrix')
  return [
    ...(traits.subgroup > 0 ? subgroupChecks(target) : []),
    ...dotChecks(traits),
    ...(fragments ? [matmulCheck(target, fragments, 'Subgroup matrices', { matrix: null })] : []),
  ]
}

/** What tuning chose: each choice by itself, and layers as they will be computed with all of them. */
export function tunedChecks(traits: GpuTraits): PathCheck[] {
  const target = targetOf(traits)
  const choices = new Map(Object.values(target.matmuls ?? {}).map((t) => [JSON.stringify(t), t]))
  if (choices.size === 0) return []
  const off = { matmuls: {} }
  return [
    ...[...choices.values()].map((t) => matmulCheck(target, t, 'Matrix products as tuned', off)),
    ...weights().map((w) => layerCheck(target, w, `Layers ${NAMED[w.format]} as tuned`, off)),
  ]
}
