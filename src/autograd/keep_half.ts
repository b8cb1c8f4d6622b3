/** @file Activations that wait for the backward pass in half the memory: each is packed after its last use in the forward pass, and unpacked before its first in
 * the backward pass. Works on the traced list, so that it serves every policy, method and family (what ActNN does with fewer bits: Chen et al. 2021,
 * https://arxiv.org/abs/2104.14129, section 3). */
import type { Call, Graph, Tensor } from '../tensor/graph.ts'
import { root } from '../tensor/plan.ts'
import { packRows, unpackRows } from './ops/half.ts'

/** Rows narrower than this stay f32: they are little memory, and among them are numbers that 11 bits do not hold (log-sum-exps). */
const NARROWEST = 64

/** Rewrite in place: what is written before the call `turn` and used after it waits as f16 with a scale a row. What `turn` itself reads does not wait. */
export function keepHalf(graph: Graph, turn: Call): void {
  const { calls } = graph
  const at = calls.indexOf(turn)
  if (at < 0) throw new Error('the call at which the backward pass begins is not in the graph')
  const last = new Map<Tensor, number>()
  const first = new Map<Tensor, number>()
  calls.forEach((c, i) => {
    for (const r of Object.values(c.buffers).map(root)) {
      if (i < at) last.set(r, i)
      else if (last.has(r) && !first.has(r)) first.set(r, i)
    }
  })
  /** By the number of the call that they stand before. */
  const packs = new Map<number, Call[]>()
  const unpacks = new Map<number, Call[]>()
  /** Takes back the call that `trace` appends, to put it before another. */
  const insert = <T>(into: Map<number, Call[]>, before: number, trace: () => T): T => {
    const made = trace()
    into.set(before, [...(into.get(before) ?? []), calls.pop()!])
    return made
  }
  for (const [r, from] of first) {
    if (from === at || r.storage || r.dtype !== 'f32' || r.shape.length !== 2 || r.cols % 4 || r.cols < NARROWEST) continue
    const kept = insert(packs, last.get(r)! + 1, () => packRows(r))
    const again = insert(unpacks, from, () => unpackRows(kept, r))
    again.memory = r.memory
    const renamed = new Map<Tensor, Tensor>([[r, again]])
    const now = (t: Tensor): Tensor => {
      if (root(t) !== r) return t
      const known = renamed.get(t)
      if (known) return known
      const view = graph.node(t.op, t.shape, [again], null, { rows: t.rows, dtype: t.dtype, alias: again })
      renamed.set(t, view)
      return view
    }
    for (let i = from; i < calls.length; i++)
      if (Object.values(calls[i].buffers).some((t) => root(t) === r))
        calls[i] = { ...calls[i], buffers: Object.fromEntries(Object.entries(calls[i].buffers).map(([b, t]) => [b, now(t)])) }
  }
  const rewritten = calls.flatMap((c, i) => [...(packs.get(i) ?? []), ...(unpacks.get(i) ?? []), c])
  calls.splice(0, calls.length, ...rewritten)
}
