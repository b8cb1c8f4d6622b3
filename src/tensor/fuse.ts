/** @file Calls that become one: a dispatch costs tens of microseconds on a GPU, and what one has in registers the next need not read again.
 * Works on the traced list, so neither methods nor model families know of it. */
import { ACTIVATION_NAMES, activationKernel } from '../kernels/activation.ts'
import { appendKvKernel, ropeAppendKernel } from '../kernels/cached_attention.ts'
import { lowRankGradKernel } from '../kernels/low_rank_grad.ts'
import { matmulSgkKernel } from '../kernels/matmul_sgk.ts'
import { matmulTileKernel } from '../kernels/matmul_tile.ts'
import { matmulVecKernel } from '../kernels/matmul_vec.ts'
import { normGradKernel, normKernel } from '../kernels/norm.ts'
import { projectKernel } from '../kernels/project.ts'
import { ropeKernel } from '../kernels/rope.ts'
import { activeBindings } from '../gpu/kernel.ts'
import type { Call, Graph, Tensor } from './graph.ts'
import { movable, touched, withoutDead } from './rewrite.ts'
import { root } from './plan.ts'

/** What is read after the run stays as it is. */
interface Traced {
  readonly calls: readonly Call[]
  readonly keep: ReadonlySet<Tensor>
}
/** The call in which `a` and the later `b` are done together, or null. */
type Rule = (a: Call, b: Call, traced: Traced) => Call | null

interface Pairing {
  readonly rule: Rule
  /** Where the joint call stands: at the first's place (the second moves up) or at the second's. */
  readonly at: 'first' | 'second'
  readonly first: (c: Call) => boolean
}

const has = (c: Call, ...flags: string[]): boolean => flags.some((f) => c.flags.includes(f))

/** A norm, or its gradient, and the projection of its result: the rows are at hand. */
const normAndProjection: Pairing = {
  at: 'first',
  first: (c) => (c.kernel === normKernel || c.kernel === normGradKernel) && !has(c, 'project', 'center', 'save', 'bias'),
  rule(a, b) {
    if (b.kernel !== projectKernel || b.constants.SEGMENTS !== 1 || b.buffers.x !== a.buffers.out) return null
    if (a.constants.WORKGROUP !== b.constants.WORKGROUP) return null
    return {
      ...a,
      flags: [...a.flags, 'project', ...b.flags],
      constants: { ...a.constants, ROWS: b.constants.ROWS, BLOCK: b.constants.BLOCK },
      buffers: { ...a.buffers, p: b.buffers.p, h: b.buffers.h },
      uniforms: { ...a.uniforms, ranks: b.uniforms.ranks, alpha: b.uniforms.alpha },
    }
  },
}

const SITE_UNIFORMS = ['ranks', 'stride', 'x_width', 'd_width', 'a_off', 'b_off', 'first', 'second'] as const
/** The gradients of two sites' factors. Nine buffers: only where the adapter binds that many. */
const twoSites: Pairing = {
  at: 'second',
  first: (c) => c.kernel === lowRankGradKernel && c.constants.MEMBERS1 === 0,
  rule(a, b) {
    if (b.kernel !== lowRankGradKernel || b.constants.MEMBERS1 !== 0) return null
    const same = a.buffers.out.storage === b.buffers.out.storage && a.uniforms.rows === b.uniforms.rows
    if (!same || (['COLUMNS', 'LANES', 'BLOCK'] as const).some((k) => a.constants[k] !== b.constants[k])) return null
    const { u0, x0, h0, d0 } = b.buffers
    return {
      ...a,
      flags: [...a.flags, 'two'],
      constants: { ...a.constants, MEMBERS1: b.constants.MEMBERS0 },
      buffers: { ...a.buffers, u1: u0, x1: x0, h1: h0, d1: d0 },
      uniforms: { ...a.uniforms, ...Object.fromEntries(SITE_UNIFORMS.map((f) => [`${f}1`, b.uniforms[`${f}0`]])) },
    }
  },
}

/** Whether one call alone reads what `a` wrote to t, so that it need not be written. */
function readOnce(t: Tensor, a: Call, { calls, keep }: Traced): boolean {
  const memory = root(t)
  if (memory.storage || [...keep].some((k) => root(k) === memory)) return false
  return calls.filter((c) => c !== a && touched(c).reads.has(memory)).length === 1
}

const sgk = (c: Call): boolean => c.kernel === matmulSgkKernel
const tile = (c: Call): boolean => c.kernel === matmulTileKernel && c.constants.SPLIT === 1
const vec = (c: Call): boolean => c.kernel === matmulVecKernel
const plainProduct = (c: Call): boolean =>
  (sgk(c) || tile(c) || vec(c)) &&
  c.uniforms.alpha === 1 &&
  c.uniforms.c_off === 0 &&
  !has(c, 'accumulate', 'residual', 'layout_tn', 'narrow', 'paired', 'ungate')
const pairs = (c: Call): boolean => plainProduct(c) && !has(c, 'layout_nn') && (!sgk(c) || c.constants.V >= 2)
/** Columns that a family keeps together: pairs may lie no closer. */
const together = (c: Call): number => (sgk(c) ? c.constants.SUBGROUP : vec(c) ? 1 : 4)
/** Sizes of a product that has pairs. In sgk a segment of the low-rank term may begin `between` the columns of a lane. */
const forPairs = (c: Call, between: boolean): Call['constants'] =>
  sgk(c) ? { ...c.constants, SPLIT: between ? 1 : 0 } : vec(c) ? { ...c.constants, COLS: Math.max(2, c.constants.COLS) } : c.constants
const activationOf = (c: Call): string => ACTIVATION_NAMES.find((a) => c.flags.includes(a))!
const size = (c: Call, field: string): number => Number(c.uniforms[field])
const segmented = (c: Call): boolean => c.uniforms.seg0 !== 0xffffffff

/** gate | up and the activation that gates one by the other. */
const gated: Pairing = {
  at: 'first',
  first: pairs,
  rule(a, b) {
    if (b.kernel !== activationKernel || !has(b, 'gated') || has(b, 'grad', 'add') || b.buffers.x !== a.buffers.c) return null
    const half = size(a, 'N') / 2
    if (half % together(a) || size(a, 'ldc') !== 2 * half) return null
    return {
      ...a,
      flags: [...a.flags, 'paired', 'gated', activationOf(b)],
      constants: forPairs(a, segmented(a)),
      buffers: { ...a.buffers, act: b.buffers.out },
      uniforms: { ...a.uniforms, pair: half },
    }
  },
}

/** The gradient of what was gated, and that of gate | up. Nobody else may read the former: it is not written. */
const ungated: Pairing = {
  at: 'first',
  first: (c) => plainProduct(c) && has(c, 'layout_nn') && !has(c, 'bias'),
  rule(a, b, traced) {
    if (b.kernel !== activationKernel || !has(b, 'grad') || !has(b, 'gated') || has(b, 'add') || b.buffers.dy !== a.buffers.c) return null
    if (!readOnce(a.buffers.c, a, traced) || size(a, 'ldc') !== size(a, 'N')) return null
    return {
      ...a,
      flags: [...a.flags, 'ungate', activationOf(b)],
      buffers: { ...a.buffers, c: b.buffers.out, gate_up: b.buffers.x },
      uniforms: { ...a.uniforms, ldc: 2 * size(a, 'N') },
    }
  },
}

/** q | k | v and the rotation of q and k, where it covers whole heads. */
const rotated: Pairing = {
  at: 'first',
  first: pairs,
  rule(a, b) {
    if (b.kernel !== ropeKernel || b.uniforms.sign !== 1 || root(b.buffers.x) !== root(a.buffers.c)) return null
    const head = size(b, 'head_dim')
    const whole = [size(a, 'N'), ...['seg0', 'seg1'].map((s) => size(a, s)).filter((n) => n !== 0xffffffff)].every((n) => n % head === 0)
    if (!whole || size(b, 'half_dim') * 2 !== head || size(b, 'half_dim') % together(a)) return null
    if (size(a, 'ldc') !== size(b, 'width') || size(a, 'N') !== size(b, 'width')) return null
    return {
      ...a,
      flags: [...a.flags, 'paired', 'rope'],
      constants: forPairs(a, segmented(a) && a.constants.V > 2),
      buffers: { ...a.buffers, positions: b.buffers.positions, inv_freq: b.buffers.inv_freq },
      uniforms: { ...a.uniforms, pair: size(b, 'half_dim'), rope_cols: size(b, 'heads') * head, mscale: b.uniforms.mscale },
    }
  },
}

/** The rotation of queries and keys, where no product took it, and the new rows of the caches. */
const appended: Pairing = {
  at: 'first',
  first: (c) => c.kernel === ropeKernel && c.uniforms.sign === 1 && has(c, 'vec4'),
  rule(a, b) {
    if (b.kernel !== appendKvKernel || root(b.buffers.qkv) !== root(a.buffers.x) || b.uniforms.tokens !== a.uniforms.rows) return null
    const depth = size(a, 'head_dim') / 4
    if (size(a, 'heads') * depth !== size(b, 'k_from') + size(b, 'kv_width')) return null
    const { k_cache, v_cache } = b.buffers
    return {
      ...b,
      kernel: ropeAppendKernel,
      buffers: { qkv: a.buffers.x, positions: a.buffers.positions, inv_freq: a.buffers.inv_freq, k_cache, v_cache },
      uniforms: { ...b.uniforms, depth, half_depth: size(a, 'half_dim') / 4, mscale: a.uniforms.mscale },
    }
  },
}

/** q | k | v, where the product turns them, and the new rows of the caches. */
const turnedAndAppended: Pairing = {
  at: 'first',
  first: (c) => has(c, 'rope') && !has(c, 'append'),
  rule(a, b) {
    if (b.kernel !== appendKvKernel || root(b.buffers.qkv) !== root(a.buffers.c) || b.uniforms.tokens !== a.uniforms.M) return null
    const [kvWidth, from] = [4 * size(b, 'kv_width'), 4 * size(b, 'k_from')]
    if (size(a, 'rope_cols') !== from + kvWidth || size(a, 'ldc') !== 4 * size(b, 'width')) return null
    const { k_cache, v_cache } = b.buffers
    const { position, capacity } = b.uniforms
    return {
      ...a,
      flags: [...a.flags, 'append'],
      buffers: { ...a.buffers, k_cache, v_cache },
      uniforms: { ...a.uniforms, kv_width: kvWidth, position, capacity },
    }
  },
}

/** A norm and the product of few rows that alone reads its result, which is then nowhere written: each team takes the row's mean square along. */
const normed: Pairing = {
  at: 'second',
  first: (c) => c.kernel === normKernel && c.flags.every((f) => f === 'one_plus'),
  rule(a, b, traced) {
    if (!vec(b) || has(b, 'norm') || b.buffers.a !== a.buffers.out || !readOnce(b.buffers.a, a, traced)) return null
    const width = 4 * size(a, 'width')
    if (size(b, 'K') !== width || size(b, 'lda') !== width || b.uniforms.a_off !== 0) return null
    return {
      ...b,
      flags: [...b.flags, 'norm', ...a.flags],
      buffers: { ...b.buffers, a: a.buffers.x, g: a.buffers.weight },
      uniforms: { ...b.uniforms, eps: a.uniforms.eps },
    }
  },
}

const PAIRINGS: readonly Pairing[] = [normAndProjection, twoSites, gated, ungated, rotated, turnedAndAppended, appended, normed]
/** How many calls further a partner may stand. */
const REACH = 24

function pair(graph: Graph, { rule, at, first }: Pairing, keep: ReadonlySet<Tensor>): void {
  const { calls } = graph
  for (let i = 0; i < calls.length; i++) {
    const a = calls[i]
    if (!first(a)) continue
    for (let j = i + 1; j < Math.min(calls.length, i + REACH); j++) {
      const joint = rule(a, calls[j], { calls, keep })
      if (!joint || activeBindings(joint.kernel, joint.flags).length > (graph.target.storageBuffers ?? 8)) continue
      const between = calls.slice(i + 1, j)
      if (at === 'first' ? movable(calls[j], between) : movable(a, between)) {
        calls.splice(j, 1)
        calls.splice(i, 1)
        calls.splice(at === 'first' ? i : j - 1, 0, joint)
        if (at === 'second') i--
      }
      break
    }
  }
}

/** Rewrite the graph's calls in place: fewer dispatches, the same results. `keep`: tensors that are read after a run. */
export function fuse(graph: Graph, keep: readonly Tensor[] = []): Graph {
  const kept = new Set(keep)
  for (const p of PAIRINGS) pair(graph, p, kept)
  const live = withoutDead(graph.calls, kept)
  graph.calls.splice(0, graph.calls.length, ...live)
  return graph
}
