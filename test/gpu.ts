/** @file Run a traced graph on the test device and compare. One device for the whole run: its pipeline cache is worth keeping. */
import { Gpu, targetOf } from '../src/gpu/device.ts'
import { setWaiter, sleepingWaiter } from '../src/gpu/wait.ts'
import { type Dim, type DType, Graph, numel, type Shape, type TargetTraits, type Tensor } from '../src/tensor/graph.ts'
import { Session, SessionPlan } from '../src/tensor/program.ts'
import { Storage } from '../src/tensor/storage.ts'

setWaiter(sleepingWaiter())
export const gpu = await Gpu.request(testGpu)
export const target = targetOf(gpu.traits)

/** Deterministic normal values (mulberry32 + Box-Muller). */
export function randn(shape: Shape, seed: number, std = 1): Float32Array<ArrayBuffer> {
  let s = seed >>> 0
  const u = (): number => {
    s = (s + 0x6d2b79f5) >>> 0
    let t = Math.imul(s ^ (s >>> 15), 1 | s)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return Float32Array.from({ length: numel(shape) }, () => std * Math.sqrt(-2 * Math.log(u() + 1e-12)) * Math.cos(2 * Math.PI * u()))
}

/** Largest |a-b| / (atol + rtol |b|): at most 1 when close. Infinity for NaN or unequal lengths. */
export function closeness(a: ArrayLike<number>, b: ArrayLike<number>, rtol = 1e-4, atol = 1e-5): number {
  if (a.length !== b.length) return Infinity
  let worst = 0
  for (let i = 0; i < b.length; i++) {
    const d = Math.abs(a[i] - b[i]) / (atol + rtol * Math.abs(b[i]))
    worst = Number.isNaN(d) ? Infinity : Math.max(worst, d)
  }
  return worst
}
/** Largest absolute difference over the largest reference magnitude. */
export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let diff = 0
  let max = 1e-12
  for (let i = 0; i < b.length; i++) {
    const d = Math.abs(a[i] - b[i])
    diff = Number.isNaN(d) ? Infinity : Math.max(diff, d)
    max = Math.max(max, Math.abs(b[i]))
  }
  return a.length === b.length ? diff / max : Infinity
}

export interface Build {
  readonly g: Graph
  /** A persistent tensor with these values; `grad`: it is trainable, its gradient collects in `sink` (zeros at first); `rows`: live rows. */
  leaf(shape: Shape, data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>, o?: { grad?: boolean; rows?: Dim }): Tensor
}
/** Trace with `build`, run once, and read the tensors it returns (or their sinks' contents: pass `leaf.sink!`). `traits`: what ops choose by. */
export async function run<K extends string>(
  build: (b: Build) => Record<K, Tensor>,
  traits: TargetTraits = target,
): Promise<Record<K, Float32Array<ArrayBuffer>>> {
  const g = new Graph(traits)
  const data = new Map<Storage, ArrayBufferView<ArrayBuffer>>()
  const storages: Storage[] = []
  const make = (shape: Shape, values: ArrayBufferView<ArrayBuffer>): Storage => {
    const s = new Storage('test', numel(shape) * 4, 'weights')
    storages.push(s)
    data.set(s, values)
    return s
  }
  const out = build({
    g,
    leaf(shape, values, { grad = false, rows } = {}) {
      const dtype: DType = values instanceof Uint32Array ? 'u32' : 'f32'
      const sink = grad ? g.leaf(make(shape, new Float32Array(numel(shape))), shape) : null
      return g.leaf(make(shape, values), shape, { dtype, needsGrad: grad, sink, ...(rows !== undefined && { rows }) })
    },
  })
  for (const s of storages) s.allocate(gpu).write(data.get(s)!)
  const session = await Session.create(gpu, new SessionPlan([{ name: 'test', graph: g, keep: Object.values<Tensor>(out) }]))
  try {
    session.programs[0].run()
    const entries: [string, Float32Array<ArrayBuffer>][] = []
    for (const [k, t] of Object.entries<Tensor>(out)) entries.push([k, await session.programs[0].read(t)])
    return Object.fromEntries(entries) as Record<K, Float32Array<ArrayBuffer>>
  } finally {
    session.destroy()
    for (const s of storages) s.destroy()
  }
}
