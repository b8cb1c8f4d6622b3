/** @file Physical memory for virtual tensors: buffers are shared by tensors whose lifetimes do not overlap. Pure. */
import { type Call, type Graph, type MemoryClass, type Tensor } from './graph.ts'
import { paddedBytes, type Storage } from './storage.ts'

export interface Slot {
  bytes: number
  /** Class of the first tensor that needed it. */
  memory: MemoryClass
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

/** Greedy best fit in call order. Tensors in `keep` stay readable after the run. */
export function plan(graph: Graph, keep: ReadonlySet<Tensor> = new Set()): Plan {
  const lastUse = new Map<Tensor, number>()
  graph.calls.forEach((c, i) => {
    for (const t of bound(c)) lastUse.set(root(t), i)
  })
  const pinned = new Set([...keep].map(root))
  const slot = new Map<Tensor, number>()
  const slots: Slot[] = []
  const storages = new Set<Storage>()
  const free: number[] = []
  const place = (t: Tensor): void => {
    if (t.storage) {
      storages.add(t.storage)
      return
    }
    const r = root(t)
    if (r.storage) throw new Error(`${t.op} overwrites persistent memory in place`)
    if (!slot.has(r)) {
      const bytes = paddedBytes(r.bytes)
      // Smallest free slot that fits; else grow the largest free one (never one shared with a pinned tensor); else a new one.
      let best = -1
      if (!pinned.has(r)) {
        for (const s of free) {
          if (best < 0) best = s
          else if (
            slots[best].bytes >= bytes ? slots[s].bytes >= bytes && slots[s].bytes < slots[best].bytes : slots[s].bytes > slots[best].bytes
          )
            best = s
        }
      }
      if (best >= 0 && slots[best].bytes < bytes && slots[best].bytes * 4 < bytes) best = -1
      if (best < 0) {
        best = slots.length
        slots.push({ bytes, memory: r.memory })
      } else {
        free.splice(free.indexOf(best), 1)
        slots[best].bytes = Math.max(slots[best].bytes, bytes)
      }
      slot.set(r, best)
    }
    slot.set(t, slot.get(r)!)
  }
  graph.calls.forEach((c, i) => {
    bound(c).forEach(place)
    for (const r of new Set(bound(c).map(root))) if (!r.storage && !pinned.has(r) && lastUse.get(r) === i) free.push(slot.get(r)!)
  })
  return { slot, slots, storages }
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
