/** @file The thin products around a low-rank update s B A x: h = s A x, u = s Bᵀ dy, and the gradients of both factors in one dispatch. */
import { lowRankGradKernel } from '../../kernels/low_rank_grad.ts'
import { projectKernel } from '../../kernels/project.ts'
import type { TargetTraits, Tensor } from '../../tensor/graph.ts'
import { rowGroup } from './live.ts'
import { asWeight, emitMatmul } from './matmul.ts'

/** A low-rank update of one linear layer, or of several that share their input. */
export interface LowRankSite {
  /** [S r, in], [out, r]. */
  readonly A: Tensor
  readonly B: Tensor
  readonly r: number
  /** First output column of each of the S members. */
  readonly starts: readonly number[]
  readonly scale: number
  /** Outputs in all. */
  readonly N: number
}

const NO_SEGMENT = 0xffffffff
/** Above this many, a tile of a matmul is as good as rows that are summed lane by lane. */
const MOST_RANKS = 64
const vec4s = (...n: number[]): boolean => n.every((v) => v % 4 === 0)

/** Rows a workgroup, lanes and vec4s at a time of a projection onto `ranks` outputs of rows of `width`. */
export function projectionTile(target: TargetTraits, width: number, ranks: number): { WORKGROUP: number; ROWS: number; BLOCK: number } {
  return { WORKGROUP: rowGroup(target, width / 4), ROWS: target.software ? 8 : 4, BLOCK: ranks % 8 === 0 ? 2 : 1 }
}

/** h = s x Aᵀ, [M, S r]. */
export function lowRankDown(x: Tensor, { A, scale }: LowRankSite): Tensor {
  const [SR, K] = [A.shape[0], A.cols]
  const h = x.graph.node('lora_down', [x.shape[0], SR], [x], null, { rows: x.rows })
  if (SR <= MOST_RANKS && vec4s(SR, K))
    x.graph.call(
      projectKernel,
      { x, p: A, h },
      { rows: x.rows, width: K / 4, ranks: SR / 4, alpha: scale, stride: SR / 4, seg0: NO_SEGMENT, seg1: NO_SEGMENT },
      { flags: ['p_rows'], constants: { ...projectionTile(x.graph.target, K, SR), SEGMENTS: 1 } },
    )
  else emitMatmul({ layout: 'nt', a: x, b: asWeight(A), c: h, M: x.rows, N: SR, K, alpha: scale })
  return h
}

/** u = s dy B, each member's columns with its own rows of B: [M, S r]. */
export function lowRankUp(dy: Tensor, { B, r, starts, scale, N }: LowRankSite): Tensor {
  const S = starts.length
  const u = dy.graph.node('lora_up_t', [dy.shape[0], S * r], [dy], null, { rows: dy.rows })
  if (r <= MOST_RANKS && vec4s(r, N, ...starts)) {
    const segment = (i: number): number => (starts[i] === undefined ? NO_SEGMENT : starts[i] / 4)
    dy.graph.call(
      projectKernel,
      { x: dy, p: B, h: u },
      { rows: dy.rows, width: N / 4, ranks: (S * r) / 4, alpha: scale, stride: r / 4, seg0: segment(1), seg1: segment(2) },
      { constants: { ...projectionTile(dy.graph.target, N, r), SEGMENTS: S } },
    )
    return u
  }
  for (const [s, start] of starts.entries())
    emitMatmul({
      layout: 'nn',
      a: dy,
      aOff: start,
      b: asWeight(B),
      bOff: start * r,
      c: u,
      cOff: s * r,
      M: dy.rows,
      N: r,
      K: (starts[s + 1] ?? N) - start,
      alpha: scale,
    })
  return u
}

interface LowRankGrad {
  readonly site: LowRankSite
  readonly x: Tensor
  readonly h: Tensor
  readonly u: Tensor
  readonly dy: Tensor
  /** Where the gradients collect. */
  readonly dA: Tensor
  readonly dB: Tensor
}

/** dA += uᵀ x and dB += dyᵀ h, if both lie in one buffer that can be bound whole; false: nothing was done. */
export function emitLowRankGrad({ site, x, h, u, dy, dA, dB }: LowRankGrad): boolean {
  const { graph } = x
  const { target } = graph
  const [K, SR] = [x.cols, u.cols]
  const storage = dA.storage
  if (!storage || storage !== dB.storage || storage.bytes > target.maxBindingSize) return false
  if (SR > 4 * MOST_RANKS || !vec4s(site.r, K, site.N, ...site.starts, dA.byteOffset / 4, dB.byteOffset / 4)) return false
  const out = graph.leaf(storage, [storage.bytes / 4])
  const sgk = target.software && target.subgroup > 0
  const segment = (i: number): number => (site.starts[i] === undefined ? NO_SEGMENT : site.starts[i] / 4)
  graph.call(
    lowRankGradKernel,
    { u0: u, x0: x, h0: h, d0: dy, out },
    {
      rows: x.rows,
      ranks0: SR / 4,
      stride0: site.r / 4,
      x_width0: K / 4,
      d_width0: site.N / 4,
      a_off0: dA.byteOffset / 16,
      b_off0: dB.byteOffset / 16,
      first0: segment(1),
      second0: segment(2),
      ...{ ranks1: 0, stride1: 0, x_width1: 0, d_width1: 0, a_off1: 0, b_off1: 0, first1: 0, second1: 0 },
    },
    {
      flags: ['accumulate'],
      constants: {
        ...(sgk ? { COLUMNS: target.subgroup, LANES: 1 } : { COLUMNS: 16, LANES: 16 }),
        BLOCK: site.r % 8 === 0 ? 2 : 1,
        MEMBERS0: site.starts.length,
        MEMBERS1: 0,
      },
    },
  )
  return true
}
