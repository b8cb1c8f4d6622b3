/** @file Small known answers for each optional path, run once on a device: a path that a driver gets wrong is switched off, and said. */
import { attention } from '../autograd/ops/attention.ts'
import { linear } from '../autograd/ops/linear.ts'
import { matmul } from '../autograd/ops/matmul.ts'
import { gradNorm } from '../autograd/ops/optimizer.ts'
import { add } from '../autograd/ops/pointwise.ts'
import type { Gpu, GpuTraits } from '../gpu/device.ts'
import { targetOf } from '../gpu/device.ts'
import type { TargetTraits, TunedMatmul } from '../gpu/kernel.ts'
import { matmulCandidates, tunedTo } from '../kernels/matmul.ts'
import { toF16 } from '../io/float16.ts'
import { packF16 } from '../io/repack.ts'
import { roundedToBytes } from '../kernels/matmul_vec.ts'
import { Graph, numel, type Shape, type Tensor } from '../tensor/graph.ts'
import { Session, SessionPlan } from '../tensor/program.ts'
import { Storage } from '../tensor/storage.ts'

type F32 = Float32Array<ArrayBuffer>
interface Trial {
  readonly g: Graph
  readonly leaf: (shape: Shape, values: F32 | Uint32Array<ArrayBuffer>) => Tensor
}
interface Check {
  /** As the device panel says it: "… gave wrong results". */
  readonly label: string
  /** What the device does without, where the answer is wrong. */
  readonly off: Partial<GpuTraits>
  readonly target: TargetTraits
  /** Traces the path; returns what it computes and what that must be. */
  readonly build: (t: Trial) => { readonly out: Tensor; readonly want: ArrayLike<number> }
}

/** Values that every sum sees in full: no two alike, signs mixed; exact in 16 bits, or, in parts of 23, not. */
const values = (n: number, seed: number, part = 32): F32 =>
  Float32Array.from({ length: n }, (_, i) => (((i * 37 + seed * 11) % 61) - 30) / part)
/** f32 sums of tens of terms below 1. */
const TOLERANCE = 1e-4

function product(a: ArrayLike<number>, b: F32, M: number, N: number, K: number): Float64Array {
  const out = new Float64Array(M * N)
  for (let m = 0; m < M; m++) for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) out[m * N + n] += a[m * K + k] * b[n * K + k]
  return out
}
/** Softmax attention over earlier keys, one head. */
function attended(qkv: F32, T: number, D: number): Float64Array {
  const out = new Float64Array(T * D)
  for (let t = 0; t < T; t++) {
    const at = (row: number, part: number, d: number): number => qkv[row * 3 * D + part * D + d]
    const scores = Array.from({ length: t + 1 }, (_, s) => {
      let dot = 0
      for (let d = 0; d < D; d++) dot += at(t, 0, d) * at(s, 1, d)
      return Math.exp(dot / Math.sqrt(D))
    })
    const total = scores.reduce((x, y) => x + y)
    for (let d = 0; d < D; d++) out[t * D + d] = scores.reduce((sum, w, s) => sum + w * at(s, 2, d), 0) / total
  }
  return out
}

/** A product as if the device had been tuned to one choice: of a tile and more, so that no smaller one is taken. */
function matmulCheck(target: TargetTraits, choice: TunedMatmul, label: string, off: Partial<GpuTraits>): Check {
  const [M, N, K] = choice.family === 'sgk' ? [19, 72, 40] : [choice.BM + 3, choice.BN + 8, 40]
  const [a, b] = [values(M * K, 1, 23), values(N * K, 2, 23)]
  const want = product(a, b, M, N, K)
  return {
    label,
    off,
    target: { ...target, matmuls: tunedTo(choice) },
    build: ({ leaf }) => ({ out: matmul(leaf([M, K], a), leaf([N, K], b), { transB: true }), want }),
  }
}

/** Packed products, of 4 unsigned and of 8 signed bits. What they must be is computed with activations rounded as the kernel rounds them, which lie far from
 * where rounding turns: a division may be off by a little. */
function dotChecks(traits: GpuTraits): Check[] {
  if (!traits.dot) return []
  const [N, K] = [12, 64]
  const x = Float32Array.from({ length: K }, (_, i) => (i % 8 === 3 ? 127 : ((i * 37) % 253) - 126 + ((i % 3) - 1) / 4) / 128)
  return ([4, 8] as const).map((bits) => {
    const most = 2 ** (bits - 1)
    const scale = (block: number): number => (1 + (block % 3)) / (8 * most)
    const data = new Uint32Array((N * K * bits) / 32)
    const w = Float32Array.from({ length: N * K }, (_, i) => {
      const whole = ((i * 101 + (i >> 4)) % (2 * most)) - most
      data[(i * bits) >> 5] |= (bits === 4 ? whole + 8 : whole & 255) << ((i * bits) & 31)
      return scale(i >> 5) * whole
    })
    const scales = Uint32Array.from({ length: (N * K) / 64 }, (_, i) => toF16(scale(2 * i)) | (toF16(scale(2 * i + 1)) << 16))
    return {
      label: `Packed products with weights of ${bits} bits`,
      off: { dot: false },
      target: { ...targetOf(traits), dot: true },
      build: ({ leaf }) => ({
        out: linear(leaf([1, K], x), {
          ...{ format: bits === 4 ? 'q4_0' : 'q8_0', rows: N, cols: K },
          ...{ data: leaf([data.length], data), scales: leaf([scales.length], scales) },
        }),
        want: product(roundedToBytes(x), w, 1, N, K),
      }),
    }
  })
}

/** The path that every other one rests on. */
function immediatesCheck(traits: GpuTraits): Check[] {
  if (traits.immediates === 0) return []
  const [x, y] = [values(72, 7), values(72, 8)]
  return [
    {
      label: 'Uniforms as immediates',
      off: { immediates: 0 },
      target: targetOf(traits),
      build: ({ leaf }) => ({ out: add(leaf([72], x), leaf([72], y)), want: x.map((v, i) => v + y[i]) }),
    },
  ]
}

function checks(traits: GpuTraits): Check[] {
  const target = targetOf(traits)
  const all: Check[] = []
  if (traits.subgroup > 0) {
    const off = { subgroup: 0 }
    all.push(matmulCheck(target, { family: 'sgk', TM: 8, V: 1 }, 'Matrix products by subgroups', off))
    const g = values(4096, 3)
    const norm = Math.sqrt(g.reduce((s, v) => s + v * v, 0))
    all.push({
      label: 'Sums over subgroups',
      off,
      target,
      build({ leaf }) {
        const stats = leaf([4], new Float32Array(4))
        gradNorm([leaf([g.length], g)], 0, stats)
        return { out: stats, want: [norm, 1, 0, 0] }
      },
    })
    const [T, D] = [13, 16]
    const qkv = values(T * 3 * D, 4)
    all.push({
      label: 'Attention by subgroups',
      off,
      target,
      build: ({ leaf }) => ({
        out: attention(leaf([T, 3 * D], qkv), {
          heads: 1,
          kvHeads: 1,
          headDim: D,
          scale: 1 / Math.sqrt(D),
          starts: leaf([T], new Uint32Array(T)),
          batch: 1,
          tokens: T,
        }),
        want: attended(qkv, T, D),
      }),
    })
  }
  const [M, N, K] = [5, 24, 32]
  const [x, w] = [values(M * K, 5), values(N * K, 6)]
  all.push({
    label: 'Weights in 16 bits',
    off: { f16: false },
    target,
    build({ leaf }) {
      const packed = packF16(w)
      const data = leaf([packed.length], packed)
      return { out: linear(leaf([M, K], x), { format: 'f16', rows: N, cols: K, data, scales: null }), want: product(x, w, M, N, K) }
    },
  })
  all.push(...dotChecks(traits))
  const tuned = new Map(Object.values(traits.matmuls ?? {}).map((t) => [JSON.stringify(t), t]))
  for (const t of tuned.values()) all.push(matmulCheck(target, t, 'Matrix products as tuned', { matmuls: {} }))
  const fragments = matmulCandidates(target).find((c) => c.family === 'matrix')
  if (fragments) all.push(matmulCheck(target, fragments, 'Subgroup matrices', { matrix: null }))
  return all
}

export interface SelfCheck {
  /** What to do without: `gpu.adopt` takes it. */
  readonly off: Partial<GpuTraits>
  /** A line for each path that is switched off. */
  readonly notes: readonly string[]
  readonly ms: number
}

/** Runs every check whose path the device has. A wrong answer, a refusal or an error switches that path off; nothing is thrown. Immediates are switched off
 * here and now, as the other paths use them. */
export async function selfCheck(gpu: Gpu): Promise<SelfCheck> {
  const began = performance.now()
  const run = async (list: Check[]) => {
    const found = await Promise.all(list.map(async (c) => ({ c, why: await wrong(gpu, c) })))
    return found.filter((f) => f.why !== null)
  }
  const failed = await run(immediatesCheck(gpu.traits))
  if (failed.length > 0) gpu.adopt({ immediates: 0 })
  failed.push(...(await run(checks(gpu.traits))))
  return {
    off: Object.assign({}, ...failed.map((f) => f.c.off)) as Partial<GpuTraits>,
    notes: failed.map((f) => `${f.c.label} gave wrong results (${f.why}): switched off.`),
    ms: performance.now() - began,
  }
}

/** Why an answer is wrong, or null. */
async function wrong(gpu: Gpu, { target, build }: Check): Promise<string | null> {
  const g = new Graph(target)
  const storages: { readonly s: Storage; readonly data: ArrayBufferView<ArrayBuffer> }[] = []
  const leaf: Trial['leaf'] = (shape, data) => {
    const s = new Storage('self-check', Math.max(data.byteLength, numel(shape) * 4), 'batch')
    storages.push({ s, data })
    return g.leaf(s, shape, { dtype: data instanceof Uint32Array ? 'u32' : 'f32' })
  }
  let session: Session | null = null
  try {
    const { out, want } = build({ g, leaf })
    for (const { s, data } of storages) s.allocate(gpu).write(data)
    session = await Session.create(gpu, new SessionPlan([{ name: 'check', graph: g, keep: [out] }]))
    const [program] = session.programs
    program.run()
    const got = await program.read(out)
    for (let i = 0; i < want.length; i++) {
      const off = Math.abs(got[i] - want[i])
      if (!(off <= TOLERANCE * Math.max(1, Math.abs(want[i])))) return `element ${i} is ${got[i]}, not ${want[i].toPrecision(6)}`
    }
    return null
  } catch (e) {
    return e instanceof Error ? e.message : String(e)
  } finally {
    session?.destroy()
    for (const { s } of storages) s.destroy()
  }
}
