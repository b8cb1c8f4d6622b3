/** @file Planned, replayable graphs. `Session` owns the memory of a set of programs; a `Program` is one recorded list of dispatches. */
import { activeBindings, paramBytes } from '../gpu/kernel.ts'
import type { Gpu } from '../gpu/device.ts'
import { type Pace, paceOf } from '../gpu/pace.ts'
import { bindSize, requireBindable } from './binding.ts'
import { type Dim, type Graph, isLive, type MemoryClass, type Tensor } from './graph.ts'
import { arenaIndex, arenaSizes, type Plan, plan } from './plan.ts'
import { estimate, Pieces, pieceSize, Recorder } from './recorder.ts'
import { STORAGE_USAGE, type Storage, readBuffer } from './storage.ts'

/** Uniforms of a call lie at multiples of this (minUniformBufferOffsetAlignment is at most 256). */
const UNIFORM_STRIDE = 256

/** In the order in which they are made: the loss head before the activations, which can share its memory. */
const MEMORY_CLASSES: readonly MemoryClass[] = ['weights', 'adapter', 'optimizer', 'batch', 'head', 'activations']

interface Dispatch {
  readonly pipeline: GPUComputePipeline
  readonly storage: GPUBindGroup
  /** Null: immediates, `bytes` of the program's mirror. */
  readonly uniform: GPUBindGroup | null
  readonly bytes: number
  /** Workgroups, and seconds by the pace of the device: computed from live uniforms at each replay. */
  readonly size: () => Size
  /** Where it may be cut: the axis, and how. */
  readonly split: { readonly axis: 0 | 1; readonly pieces: Pieces | null } | undefined
}
interface Size {
  readonly grid: readonly [x: number, y: number, z: number]
  readonly seconds: number
}
interface LiveField {
  readonly index: number
  readonly type: 'u32' | 'f32'
  readonly source: Dim
}

/** Bytes by class: what will be created, before it is. A buffer that serves several classes, one after the other, counts for the first of
 * `MEMORY_CLASSES` with what that needs, and for a later one with what it needs beyond. */
export type PlannedBytes = Readonly<Record<MemoryClass, number>>

export interface GraphSpec {
  readonly name: string
  readonly graph: Graph
  /** Tensors to be read or copied after a run. */
  readonly keep?: readonly Tensor[]
}

/** What a set of graphs needs, known before anything is allocated. */
export class SessionPlan {
  readonly plans: readonly Plan[]
  /** Bytes of each buffer that tensors share, and the first class that needs all of it. */
  readonly arena: readonly number[]
  readonly arenaMemory: readonly MemoryClass[]
  readonly storages: ReadonlySet<Storage>
  readonly bytes: PlannedBytes
  readonly total: number
  constructor(
    readonly specs: readonly GraphSpec[],
    /** Storages that exist whether or not a call binds them. */
    extra: readonly Storage[] = [],
    /** Bytes of staging buffers beside them. */
    staging = 0,
  ) {
    this.plans = specs.map((s) => plan(s.graph, new Set(s.keep)))
    this.arena = arenaSizes(this.plans)
    const bytes: Record<MemoryClass, number> = { weights: 0, adapter: 0, optimizer: 0, activations: 0, head: 0, batch: 0 }
    const storages = new Set<Storage>(extra)
    for (const p of this.plans) for (const s of p.storages) storages.add(s)
    for (const s of storages) bytes[s.memory] += s.bytes
    const indexes = this.plans.map(arenaIndex)
    this.arenaMemory = this.arena.map((_, a) => {
      const needs = new Map<MemoryClass, number>()
      this.plans.forEach(({ slots }, p) => {
        for (const [memory, size] of slots[indexes[p].indexOf(a)]?.needs ?? []) needs.set(memory, Math.max(size, needs.get(memory) ?? 0))
      })
      let counted = 0
      let owner: MemoryClass = 'activations'
      for (const memory of MEMORY_CLASSES) {
        const more = (needs.get(memory) ?? 0) - counted
        if (more <= 0) continue
        bytes[memory] += more
        counted += more
        owner = memory
      }
      return owner
    })
    this.storages = storages
    bytes.batch += staging + specs.reduce((n, s) => n + uniformBytes(s.graph), 0)
    this.bytes = bytes
    this.total = Object.values(bytes).reduce((a, b) => a + b, 0)
  }
}
const uniformBytes = (g: Graph): number => Math.max(1, g.calls.length) * UNIFORM_STRIDE

type Within = (memory: MemoryClass, make: () => readonly GPUBuffer[] | Promise<readonly GPUBuffer[]>) => unknown

export class Session {
  private constructor(
    readonly gpu: Gpu,
    readonly plan: SessionPlan,
    readonly arena: readonly GPUBuffer[],
    readonly programs: readonly Program[],
  ) {}

  /** Create every buffer and pipeline. Storages are allocated if they are not yet; the session does not own them. Leaves nothing behind where it fails.
   * `within` runs the making of each class's buffers, which it gets back: to look whether the GPU went along. */
  static async create(gpu: Gpu, sessionPlan: SessionPlan, within: Within = (_, make) => make()): Promise<Session> {
    const { specs, plans, storages, arenaMemory } = sessionPlan
    const fresh: Storage[] = []
    const arena: GPUBuffer[] = []
    const programs: Program[] = []
    try {
      for (const memory of MEMORY_CLASSES)
        await within(memory, () => {
          const made: GPUBuffer[] = []
          for (const s of storages)
            if (s.memory === memory && !s.allocated) {
              fresh.push(s)
              made.push(s.allocate(gpu).buffer)
            }
          sessionPlan.arena.forEach((size, i) => {
            if (arenaMemory[i] === memory) made.push((arena[i] = gpu.createBuffer(size, STORAGE_USAGE, `arena ${i}`)))
          })
          return made
        })
      await within('batch', async () => {
        const compiled = await Promise.allSettled(specs.map((spec, i) => Program.compile(gpu, spec, plans[i], arena)))
        for (const c of compiled) if (c.status === 'fulfilled') programs.push(c.value)
        for (const c of compiled) if (c.status === 'rejected') throw c.reason
        return []
      })
    } catch (e) {
      for (const p of programs) p.destroy()
      for (const b of arena) if (b) gpu.destroyBuffer(b)
      for (const s of fresh) s.destroy()
      throw e
    }
    return new Session(gpu, sessionPlan, arena, programs)
  }
  program(name: string): Program {
    const p = this.programs.find((q) => q.name === name)
    if (!p) throw new Error(`no program ${name}`)
    return p
  }
  destroy(): void {
    for (const p of this.programs) p.destroy()
    for (const b of this.arena) this.gpu.destroyBuffer(b)
  }
}

export class Program {
  readonly #mirror: ArrayBuffer
  readonly #view: DataView
  readonly #pace: Pace | null
  private constructor(
    readonly gpu: Gpu,
    readonly name: string,
    readonly graph: Graph,
    readonly bufferOf: (t: Tensor) => GPUBuffer,
    readonly dispatches: readonly Dispatch[],
    readonly live: readonly LiveField[],
    readonly uniforms: GPUBuffer,
    mirror: ArrayBuffer,
  ) {
    this.#mirror = mirror
    this.#view = new DataView(mirror)
    this.#pace = paceOf(graph.target)
  }

  /** Throws GpuError where a tensor is larger than one binding. */
  static async compile(gpu: Gpu, { name, graph }: GraphSpec, p: Plan, arena: readonly GPUBuffer[]): Promise<Program> {
    const { device } = gpu
    const { maxBindingSize } = gpu.traits
    requireBindable(name, graph, maxBindingSize)
    const index = arenaIndex(p)
    const bufferOf = (t: Tensor): GPUBuffer => {
      if (t.storage) return t.storage.buffer
      const s = p.slot.get(t)
      if (s === undefined) throw new Error(`${t.op} #${t.id} has no memory: nothing uses it`)
      return arena[index[s]]
    }
    // Asked with the pipelines, which are made for the same answer.
    const immediates = graph.calls.map((c) => gpu.takesImmediates(c.kernel))
    const pipelines = await Promise.all(graph.calls.map((c) => gpu.pipeline(c)))
    const mirror = new ArrayBuffer(uniformBytes(graph))
    const view = new DataView(mirror)
    const uniforms = gpu.createBuffer(mirror.byteLength, 0x40 | 0x8 /* UNIFORM | COPY_DST */, `${name} uniforms`)
    const live: LiveField[] = []
    const pace = paceOf(graph.target)
    const dispatches = graph.calls.map((c, i): Dispatch => {
      const fields = Object.entries(c.kernel.uniforms)
      fields.forEach(([field, type], k) => {
        const source = c.uniforms[field]
        const at = i * UNIFORM_STRIDE + k * 4
        setField(view, at, type, isLive(source) ? source.value : source)
        if (isLive(source)) live.push({ index: at, type, source })
      })
      const values = (): Record<string, number> => Object.fromEntries(fields.map(([f]) => [f, dimValue(c.uniforms[f])]))
      const size = (): Size => {
        const v = values()
        const [x, y = 1, z = 1] = c.kernel.grid(v, c.constants)
        return { grid: [x, y, z], seconds: pace ? estimate(pace, c, v) : 0 }
      }
      const dynamic = fields.some(([f]) => isLive(c.uniforms[f]))
      const pipeline = pipelines[i]
      const entries = activeBindings(c.kernel, c.flags).map(({ name: b, index: binding }) => {
        const t = c.buffers[b]
        if (!t) throw new Error(`${c.kernel.name}: binding ${b} is not given`)
        const buffer = bufferOf(t)
        return {
          binding,
          resource:
            t.byteOffset || t.storage ? { buffer, offset: t.byteOffset, size: bindSize(t, buffer.size, maxBindingSize) } : { buffer },
        }
      })
      const { split } = c.kernel
      const bytes = paramBytes(c.kernel)
      const bound = Math.ceil(bytes / 16) * 16
      const layout = () => pipeline.getBindGroupLayout(1)
      const immediate = immediates[i]
      const fixed = dynamic ? null : size()
      return {
        pipeline,
        storage: device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }),
        uniform: immediate
          ? null
          : device.createBindGroup({
              layout: layout(),
              entries: [{ binding: 0, resource: { buffer: uniforms, offset: i * UNIFORM_STRIDE, size: bound } }],
            }),
        bytes,
        size: fixed ? () => fixed : size,
        split: split && {
          axis: split === 'x' ? 0 : 1,
          pieces: immediate ? null : new Pieces(gpu, layout, UNIFORM_STRIDE, bound, fields.length * 4),
        },
      }
    })
    device.queue.writeBuffer(uniforms, 0, mirror)
    return new Program(gpu, name, graph, bufferOf, dispatches, live, uniforms, mirror)
  }

  /** Refresh live uniforms and record every dispatch, in passes and submits as long as the device's pace allows (one of each on software adapters).
   * Live values must not change before the last submit. */
  record(out: Recorder): void {
    if (this.live.length > 0) {
      for (const { index, type, source } of this.live) setField(this.#view, index, type, dimValue(source))
      this.gpu.device.queue.writeBuffer(this.uniforms, 0, this.#mirror)
    }
    let pass = out.encoder.beginComputePass({ label: this.name })
    const dispatch = (d: Dispatch, uniform: GPUBindGroup | null, at: number, grid: Size['grid'], seconds: number): void => {
      if (out.isFull(this.#pace, seconds)) {
        pass.end()
        out.flush()
        pass = out.encoder.beginComputePass({ label: this.name })
      }
      pass.setPipeline(d.pipeline)
      pass.setBindGroup(0, d.storage)
      if (uniform) pass.setBindGroup(1, uniform)
      else pass.setImmediates(0, this.#mirror, at, d.bytes)
      pass.dispatchWorkgroups(...grid)
      out.count(seconds)
    }
    this.dispatches.forEach((d, i) => {
      const { grid, seconds } = d.size()
      if (grid.includes(0)) return
      const at = i * UNIFORM_STRIDE
      if (!this.#pace || !d.split || seconds <= this.#pace.dispatch) {
        dispatch(d, d.uniform, at, grid, seconds)
        return
      }
      const { axis, pieces } = d.split
      const each = pieceSize(this.#pace, seconds, grid[axis])
      const piece = (uniform: GPUBindGroup | null, count: number): void => {
        dispatch(d, uniform, at, axis === 0 ? [count, grid[1], grid[2]] : [grid[0], count, grid[2]], (seconds * count) / grid[axis])
      }
      if (pieces) for (const { group, count } of pieces.cut(each, grid[axis], this.#mirror.slice(at, at + pieces.size))) piece(group, count)
      else {
        const base = at + d.bytes - 4
        for (let first = 0; first < grid[axis]; first += each) {
          this.#view.setUint32(base, first, true)
          piece(null, Math.min(each, grid[axis] - first))
        }
        this.#view.setUint32(base, 0, true)
      }
    })
    pass.end()
  }

  /** Record and submit on its own. */
  run(): void {
    const out = new Recorder(this.gpu)
    this.record(out)
    out.flush()
  }

  /** Contents of a kept or persistent tensor, as f32. Not for the hot path. */
  async read(t: Tensor): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await readBuffer(this.gpu, this.bufferOf(t), t.byteOffset, t.bytes))
  }

  destroy(): void {
    for (const d of this.dispatches) d.split?.pieces?.destroy()
    this.gpu.destroyBuffer(this.uniforms)
  }
}

const dimValue = (d: Dim): number => (typeof d === 'number' ? d : d.value)

function setField(view: DataView, at: number, type: 'u32' | 'f32', v: number): void {
  if (type === 'f32') view.setFloat32(at, v, true)
  else view.setUint32(at, v, true)
}
