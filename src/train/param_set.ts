/** @file Trained parameters in flat buffers, so that the optimizer is one dispatch: each arena has its values, gradients and moments in the same layout. */
import { type MemoryClass, type Shape, numel } from '../tensor/graph.ts'
import { Storage } from '../tensor/storage.ts'
import type { Place } from '../nn/store.ts'

/** Floats that share one learning-rate factor; every run of parameters starts at a multiple, which is also the 256 bytes that a view needs. */
export const BLOCK = 64

export interface Entry {
  /** Name in the exported state dict. */
  readonly key: string
  readonly shape: Shape
  /** Multiplies the learning rate. */
  readonly lr: number
  readonly arena: number
  /** First float in the arena. */
  readonly offset: number
}
export interface NewEntry {
  readonly key: string
  readonly shape: Shape
  readonly lr: number
}
export interface Arena {
  /** Floats. */
  readonly length: number
  readonly param: Storage
  /** Null where the parameters are only used. */
  readonly training: { readonly grad: Storage; readonly m: Storage; readonly v: Storage; readonly lrScale: Storage } | null
}

export class ParamSet {
  readonly entries: Entry[] = []
  readonly #lengths: number[] = []
  #arenas: Arena[] | null = null

  /** @param maxFloats of one arena: what one binding may hold. */
  constructor(
    readonly maxFloats: number,
    readonly trainable: boolean,
    /** Whose bytes the values are: the adapter's, or the model's own weights. */
    readonly memory: MemoryClass,
  ) {}

  /** Place parameters of one learning rate one after another without gaps; returns the first one's entry. */
  add(members: readonly NewEntry[]): Entry {
    if (this.#arenas) throw new Error('the layout is already final')
    const floats = members.reduce((n, m) => n + numel(m.shape), 0)
    const padded = Math.ceil(floats / BLOCK) * BLOCK
    let arena = this.#lengths.length - 1
    if (arena < 0 || this.#lengths[arena] + padded > this.maxFloats) arena = this.#lengths.push(0) - 1
    let offset = this.#lengths[arena]
    const first = this.entries.length
    for (const m of members) {
      this.entries.push({ ...m, arena, offset })
      offset += numel(m.shape)
    }
    this.#lengths[arena] += padded
    return this.entries[first]
  }

  /** The arenas; the layout is final from here on. Nothing is allocated yet. */
  get arenas(): readonly Arena[] {
    this.#arenas ??= this.#lengths.map((length, i) => {
      const make = (what: string, memory: MemoryClass, floats = length) => new Storage(`${what} ${i}`, floats * 4, memory)
      return {
        length,
        param: make('parameters', this.memory),
        training: this.trainable
          ? {
              grad: make('gradients', 'adapter'),
              m: make('first moments', 'optimizer'),
              v: make('second moments', 'optimizer'),
              lrScale: make('learning-rate factors', 'optimizer', length / BLOCK),
            }
          : null,
      }
    })
    return this.#arenas
  }
  storages(): Storage[] {
    return this.arenas.flatMap(({ param, training: t }) => [param, ...(t ? [t.grad, t.m, t.v, t.lrScale] : [])])
  }
  place(e: Entry): Place {
    return { storage: this.arenas[e.arena].param, byteOffset: e.offset * 4 }
  }
  gradient(e: Entry): Place | null {
    const t = this.arenas[e.arena].training
    return t && { storage: t.grad, byteOffset: e.offset * 4 }
  }
  /** Parameters, padding not counted. */
  get count(): number {
    return this.entries.reduce((n, e) => n + numel(e.shape), 0)
  }

  /** The learning-rate factor of each block of an arena. */
  lrScale(arena: number): Float32Array<ArrayBuffer> {
    const out = new Float32Array(this.arenas[arena].length / BLOCK).fill(1)
    for (const e of this.entries)
      if (e.arena === arena) out.fill(e.lr, Math.floor(e.offset / BLOCK), Math.ceil((e.offset + numel(e.shape)) / BLOCK))
    return out
  }

  write(e: Entry, values: Float32Array<ArrayBuffer>): void {
    if (values.length !== numel(e.shape)) throw new Error(`${e.key}: ${values.length} values for [${e.shape.join(', ')}]`)
    this.place(e).storage.write(values, e.offset * 4)
  }
  /** Values of every entry, by key. */
  async read(): Promise<Map<string, { shape: Shape; data: Float32Array<ArrayBuffer> }>> {
    return this.valuesOf(await Promise.all(this.arenas.map((a) => a.param.read())))
  }
  /** The same from copies of the arenas. */
  valuesOf(flat: readonly ArrayBuffer[]): Map<string, { shape: Shape; data: Float32Array<ArrayBuffer> }> {
    return new Map(
      this.entries.map((e) => [e.key, { shape: e.shape, data: new Float32Array(flat[e.arena], e.offset * 4, numel(e.shape)).slice() }]),
    )
  }
  destroy(): void {
    for (const s of this.storages()) s.destroy()
  }
}
