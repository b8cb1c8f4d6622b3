/** @file Calls that become one: a dispatch costs tens of microseconds on a GPU, and what one has in registers the next need not read again.
 * Works on the traced list, so neither methods nor model families know of it. */
import { lowRankGradKernel } from '../kernels/low_rank_grad.ts'
import { normGradKernel, normKernel } from '../kernels/norm.ts'
import { projectKernel } from '../kernels/project.ts'
import type { Call, Graph, Tensor } from './graph.ts'
import { movable, withoutDead } from './rewrite.ts'

/** The call in which `a` and the later `b` are done together, or null. */
type Rule = (a: Call, b: Call, graph: Graph) => Call | null

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
  rule(a, b, { target }) {
    if (b.kernel !== lowRankGradKernel || b.constants.MEMBERS1 !== 0 || (target.storageBuffers ?? 8) < 9) return null
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

const PAIRINGS: readonly Pairing[] = [normAndProjection, twoSites]
/** How many calls further a partner may stand. */
const REACH = 24

function pair(graph: Graph, { rule, at, first }: Pairing): void {
  const { calls } = graph
  for (let i = 0; i < calls.length; i++) {
    const a = calls[i]
    if (!first(a)) continue
    for (let j = i + 1; j < Math.min(calls.length, i + REACH); j++) {
      const joint = rule(a, calls[j], graph)
      if (!joint) continue
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
  for (const p of PAIRINGS) pair(graph, p)
  const live = withoutDead(graph.calls, new Set(keep))
  graph.calls.splice(0, graph.calls.length, ...live)
  return graph
}
