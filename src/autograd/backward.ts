/** @file Reverse-mode differentiation by graph transformation: appends the calls of the gradient to the graph. */
import type { GradThunk, Tensor } from '../tensor/graph.ts'
import { accumulate } from './ops/pointwise.ts'

/** Append the calls of d(output · seed). Gradients of leaves that have a `sink` are added to it; the gradients of `wrt` are returned
 * (null where no path leads there). `ownsSeed`: the seed's memory may be overwritten. Walks only tensors that lead to something trainable, so a frozen weight costs neither its gradient nor a saved input. */
export function backward(output: Tensor, seed: Tensor, wrt: readonly Tensor[] = [], { ownsSeed = false } = {}): (Tensor | null)[] {
  const grads = new Map<Tensor, Tensor>([[output, seed]])
  const stop = new Set(wrt)
  const { tensors } = output.graph
  // Tensor ids are a topological order: an op's output is made after its inputs.
  for (let id = output.id; id >= 0; id--) {
    const t = tensors[id]
    const dt = grads.get(t)
    if (!dt || !t.vjp || stop.has(t)) continue
    grads.delete(t)
    const owned = (ownsSeed || dt !== seed) && ![...grads.values()].includes(dt)
    const thunks = t.vjp(dt, owned)
    const borrowed = ownsSeed ? [dt] : [dt, seed]
    t.inputs.forEach((input, i) => {
      const thunk = thunks[i]
      if (!input.needsGrad || !thunk) return
      if (input.sink) addTo(input.sink, thunk)
      else grads.set(input, combine(grads, input, borrowed, thunk))
    })
  }
  return wrt.map((t) => grads.get(t) ?? null)
}

function addTo(sink: Tensor, thunk: GradThunk): void {
  const g = thunk(sink)
  if (g !== sink) accumulate(sink, g)
}

/** The gradient of `input` with this thunk's part added, in place where nobody else will read the earlier part. `borrowed`: the gradient that is being
 * passed on, and the caller's seed. */
function combine(grads: ReadonlyMap<Tensor, Tensor>, input: Tensor, borrowed: readonly Tensor[], thunk: GradThunk): Tensor {
  const prev = grads.get(input)
  if (!prev) return thunk(null)
  let holders = 0
  for (const g of grads.values()) if (g === prev) holders++
  const owned = holders === 1 && !borrowed.includes(prev)
  const g = thunk(owned ? prev : null)
  if (g === prev) return g
  // Add into whichever of the two is ours alone.
  if (owned) {
    accumulate(prev, g)
    return prev
  }
  if (!borrowed.includes(g) && ![...grads.values()].includes(g)) {
    accumulate(g, prev)
    return g
  }
  return sum(prev, g)
}

function sum(a: Tensor, b: Tensor): Tensor {
  const out = a.graph.node('sum', a.shape, [a], null)
  accumulate(out, a, true)
  accumulate(out, b)
  return out
}

/** fn(x), with fn's intermediates dropped after the forward pass and traced again in the backward pass.
 * Chen et al. 2016, https://arxiv.org/abs/1604.06174. fn must be pure: randomness comes from counters it closes over. */
export function checkpoint(fn: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const y = fn(x)
  if (!y.needsGrad) return y
  // An identity node whose gradient re-traces fn. Trainable leaves inside have sinks, so only x's gradient is returned; where x needs none,
  // the anchor takes its place: it ends the walk.
  const from = x.needsGrad ? x : x.graph.node('anchor', y.shape, [y], () => [null])
  return x.graph.node('checkpoint', y.shape, [from], (dy, ownsSeed) => [() => backward(fn(x), dy, [x], { ownsSeed })[0] ?? dy], {
    alias: y,
    rows: y.rows,
  })
}
