/** @file Physical memory for virtual tensors: buffers are shared by tensors whose lifetimes do not overlap. Pure. */
import { type Call, type Graph, type MemoryClass, type Tensor } from './graph.ts'
import { paddedBytes, type Storage } from './storage.ts'

export interface Slot {
  readonly bytes: number
  /** Bytes of the largest tensor of each class that lies there at some time; the first is as large as the slot. */
  readonly needs: Map<MemoryClass, number>
}
export interface Plan {
  /** Physical slot of each planned tensor (aliases share their root's). */
  readonly slot: ReadonlyMap<Tensor, number>
  readonly slots: readonly Slot[]
  /** Every persistent storage that a call binds. */
  readonly storages: ReadonlySet<Storage>
}

/** The tensor that owns the memory. */
export function root(t: Tensor): Tensor {
  while (t.alias) t = t.alias
  return t
}

const bound = (c: Call): Tensor[] => Object.values(c.buffers)

/** Calls [first, last] during which a tensor's memory holds something. */
interface Lifetime {
  readonly tensor: Tensor
  readonly first: number
  readonly last: number
}

/** Slots for tensors in order of size, the largest first: each takes the smallest slot that is free for its lifetime, nearest in time to what lies there
 * (Pisarchyk & Lee 2020, https://arxiv.org/abs/2001.03288, section 4.3, "greedy by size improved"). Tensors in `keep` stay readable after the run. */
export function plan(graph: Graph, keep: ReadonlySet<Tensor> = new Set()): Plan {
  const { calls } = graph
  const first = new Map<Tensor, number>()
  const last = new Map<Tensor, number>()
  const storages = new Set<Storage>()
  const members = new Set<Tensor>()
  calls.forEach((c, i) => {
    for (const t of bound(c)) {
      if (t.storage) {
        storages.add(t.storage)
        continue
      }
      const r = root(t)
      if (r.storage) throw new Error(`${t.op} overwrites persistent memory in place`)
      members.add(t)
      if (!first.has(r)) first.set(r, i)
      last.set(r, i)
    }
  })
  for (const r of [...keep].map(root)) if (first.has(r)) last.set(r, calls.length)
  const lives = [...first].map(([tensor, at]): Lifetime => ({ tensor, first: at, last: last.get(tensor)! }))
  lives.sort((a, b) => b.tensor.bytes - a.tensor.bytes || a.first - b.first)

  const slots: Slot[] = []
  const tenants: Lifetime[][] = []
  const slot = new Map<Tensor, number>()
  for (const life of lives) {
    let best = -1
    let bestGap = Infinity
    for (let s = slots.length - 1; s >= 0; s--) {
      // Sizes fall along the slots: a larger one is taken only where no smaller is free.
      if (best >= 0 && slots[s].bytes > slots[best].bytes) break
      const gap = gapTo(life, tenants[s])
      if (gap < bestGap) [best, bestGap] = [s, gap]
    }
    if (best < 0) {
      best = slots.push({ bytes: paddedBytes(life.tensor.bytes), needs: new Map() }) - 1
      tenants.push([])
    }
    tenants[best].push(life)
    const { needs } = slots[best]
    if (!needs.has(life.tensor.memory)) needs.set(life.tensor.memory, paddedBytes(life.tensor.bytes))
    slot.set(life.tensor, best)
  }
  for (const t of members) slot.set(t, slot.get(root(t))!)
  return { slot, slots, storages }
}

/** Calls between a lifetime and the nearest tenant's; Infinity where they meet. */
function gapTo(life: Lifetime, tenants: readonly Lifetime[]): number {
  let gap = Number.MAX_SAFE_INTEGER
  for (const t of tenants) {
    const g = life.first > t.last ? life.first - t.last : t.first > life.last ? t.first - life.last : Infinity
    if (g === Infinity) return Infinity
    gap = Math.min(gap, g)
  }
  return gap
}

/** Sizes that serve every plan: programs that never run at the same time share one arena, the i-th largest slot of each in the i-th buffer. */
export function arenaSizes(plans: readonly Plan[]): number[] {
  const sorted = plans.map((p) => p.slots.map((s) => s.bytes).sort((a, b) => b - a))
  const count = Math.max(0, ...sorted.map((s) => s.length))
  return Array.from({ length: count }, (_, i) => Math.max(...sorted.map((s) => s[i] ?? 0)))
}
/** Index in the arena of each slot of a plan. */
export function arenaIndex(p: Plan): number[] {
  const order = p.slots.map((s, i) => [s.bytes, i] as const).sort((a, b) => b[0] - a[0] || a[1] - b[1])
  const index: number[] = []
  order.forEach(([, slot], rank) => (index[slot] = rank))
  return index
}
