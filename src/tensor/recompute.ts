/** @file Selective recomputation: what costs little to compute is dropped after the forward pass and computed again just before the backward pass reads it
 * (Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, section 5; here norms and activations, whose inputs are kept anyway). */
import { activationKernel } from '../kernels/activation.ts'
import { normKernel } from '../kernels/norm.ts'
import type { Call, Graph, Tensor } from './graph.ts'
import { touched } from './rewrite.ts'
import { root } from './plan.ts'

const cheap = (c: Call): boolean =>
  (c.kernel === normKernel && !c.flags.includes('save')) ||
  (c.kernel === activationKernel && !c.flags.includes('grad') && !c.flags.includes('add'))

/** Rewrite in place: results of cheap calls before number `turn` (the first call after the forward pass) are made again for what reads them later. What that
 * call itself reads is at hand. */
export function recompute(graph: Graph, turn: number): Graph {
  const { calls } = graph
  const inserted: { readonly at: number; readonly call: Call }[] = []
  for (let i = 0; i < turn; i++) {
    const c = calls[i]
    if (!cheap(c)) continue
    const old = c.buffers.out
    const reads = (d: Call): boolean => Object.values(d.buffers).includes(old)
    const first = calls.findIndex((d, j) => j >= turn && reads(d))
    if (first <= turn || overwritten(c, calls.slice(i + 1, first))) continue
    const again: Tensor = graph.node(`${old.op} again`, old.shape, [old], null, { rows: old.rows })
    for (let j = first; j < calls.length; j++)
      if (reads(calls[j]))
        calls[j] = {
          ...calls[j],
          buffers: Object.fromEntries(Object.entries(calls[j].buffers).map(([b, t]) => [b, t === old ? again : t])),
        }
    inserted.push({ at: first, call: { ...c, buffers: { ...c.buffers, out: again } } })
  }
  for (const { at, call } of inserted.sort((a, b) => b.at - a.at)) calls.splice(at, 0, call)
  return graph
}

/** Whether the inputs of `c` are written by one of `later`. */
function overwritten(c: Call, later: readonly Call[]): boolean {
  const inputs = new Set<object>(
    Object.entries(c.buffers)
      .filter(([b]) => b !== 'out')
      .map(([, t]) => root(t).storage ?? root(t)),
  )
  return later.some((d) => [...touched(d).writes].some((m) => inputs.has(m)))
}
