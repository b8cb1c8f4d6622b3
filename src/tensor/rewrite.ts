/** @file What a traced graph is rewritten with: which memory a call reads and writes, and whether two calls may change places. Pure. */
import { access } from '../gpu/kernel.ts'
import type { Call, Tensor } from './graph.ts'
import { root } from './plan.ts'

/** Memory as a key: a planned tensor's root, or a persistent storage as a whole. */
const memoryOf = (t: Tensor): object => {
  const r = root(t)
  return r.storage ?? r
}

export interface Touched {
  readonly reads: ReadonlySet<object>
  readonly writes: ReadonlySet<object>
}
/** A written buffer may be read as well (`+=`), so it counts as both. */
export function touched(c: Call): Touched {
  const reads = new Set<object>()
  const writes = new Set<object>()
  for (const [name, t] of Object.entries(c.buffers)) {
    const m = memoryOf(t)
    reads.add(m)
    if (access(c.kernel.bindings[name]) === 'write') writes.add(m)
  }
  return { reads, writes }
}

const meet = (a: ReadonlySet<object>, b: ReadonlySet<object>): boolean => [...a].some((m) => b.has(m))

/** Whether `c` gives the same result before or after every one of `others`. */
export function movable(c: Call, others: readonly Call[]): boolean {
  const mine = touched(c)
  return others.every((o) => {
    const { reads, writes } = touched(o)
    return !meet(mine.writes, reads) && !meet(mine.reads, writes)
  })
}

/** The calls whose results reach persistent memory or `keep`. */
export function withoutDead(calls: readonly Call[], keep: ReadonlySet<Tensor>): Call[] {
  const wanted = new Set<object>([...keep].map(memoryOf))
  const live: Call[] = []
  for (const c of calls.toReversed()) {
    const { reads, writes } = touched(c)
    const persistent = Object.entries(c.buffers).some(([name, t]) => access(c.kernel.bindings[name]) === 'write' && root(t).storage)
    if (!persistent && !meet(writes, wanted)) continue
    live.push(c)
    for (const m of reads) wanted.add(m)
  }
  return live.reverse()
}
