/** @file Trained parameters in flat buffers, so that the optimizer is one dispatch: each arena has its values, gradients and moments in the same layout. */
import { MOMENTS_8BIT, type Moments8bit, moment8bitBytes } from '../autograd/ops/optimizer.ts'
import { OptionError } from '../errors.ts'
import { type MemoryClass, type Shape, numel } from '../tensor/graph.ts'
import { Storage } from '../tensor/storage.ts'
import type { Place } from '../nn/store.ts'

/** Floats that share one learning-rate factor; every run of parameters starts at a multiple, which is also the 256 bytes that a view needs. */
export const BLOCK = 64

const tooLarge = (members: readonly NewEntry[], bytes: number, limit: number, memory: MemoryClass): OptionError =>
  new OptionError(`it takes ${bytes} bytes as trained f32 values, and this GPU binds at most ${limit} at once`, {
    where: members.map((m) => m.key).join(' | '),
    why: 'What is trained must fit one binding: the rest of it would never be updated',
    fix:
      memory === 'weights'
        ? 'Train an adapter beside the frozen weights (lora) instead of every weight (full), or use a GPU with larger bindings'
        : 'Use a lower rank or fewer vectors, or a GPU with larger bindings',
  })

/** Parameters placed together that have fewer floats than this keep moments of 32 bits, as in bitsandbytes: it saves next to nothing there, and
 * norms and biases are the ones that small changes matter to. */
const LEAST_8BIT = 4096

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
  /** How moments are kept; null: as 32-bit floats. */
  readonly moments: Moments8bit | null
  /** Null where the parameters are only used. */
  readonly training: { readonly grad: Storage; readonly m: Storage; readonly v: Storage; readonly lrScale: Storage } | null
}

export class ParamSet {
  readonly entries: Entry[] = []
  readonly #layout: { length: number; readonly moments: Moments8bit | null }[] = []
  #arenas: Arena[] | null = null

  /** @param maxFloats of one arena: what one binding may hold. */
  constructor(
    readonly maxFloats: number,
    readonly trainable: boolean,
    /** Whose bytes the values are: the adapter's, or the model's own weights. */
    readonly memory: MemoryClass,
    /** How the moments of large parameters are kept. */
    readonly moments: Moments8bit | null = null,
  ) {}

  /** Place parameters of one learning rate one after another without gaps; returns the first one's entry. Throws OptionError where one binding cannot
   * hold them: the optimizer and the gradient's products see a buffer whole. */
  add(members: readonly NewEntry[]): Entry {
    if (this.#arenas) throw new Error('the layout is already final')
    const floats = members.reduce((n, m) => n + numel(m.shape), 0)
    const moments = this.trainable && floats >= LEAST_8BIT ? this.moments : null
    // Blocks that share a scale hold parameters of one run.
    const block = moments ? MOMENTS_8BIT[moments].block : BLOCK
    const padded = Math.ceil(floats / block) * block
    if (padded > this.maxFloats) throw tooLarge(members, 4 * padded, 4 * this.maxFloats, this.memory)
    let arena = this.#layout.findLastIndex((a) => a.moments === moments)
    if (arena < 0 || this.#layout[arena].length + padded > this.maxFloats) arena = this.#layout.push({ length: 0, moments }) - 1
    let offset = this.#layout[arena].length
    const first = this.entries.length
    for (const m of members) {
      this.entries.push({ ...m, arena, offset })
      offset += numel(m.shape)
    }
    this.#layout[arena].length += padded
    return this.entries[first]
  }

  /** The arenas; the layout is final from here on. Nothing is allocated yet. */
  get arenas(): readonly Arena[] {
    this.#arenas ??= this.#layout.map(({ length, moments }, i) => {
      const make = (what: string, memory: MemoryClass, bytes = length * 4) => new Storage(`${what} ${i}`, bytes, memory)
      const momentBytes = moments ? moment8bitBytes(moments, length) : length * 4
      return {
        length,
        moments,
        param: make('parameters', this.memory),
        training: this.trainable
          ? {
              grad: make('gradients', 'adapter'),
              m: make('first moments', 'optimizer', momentBytes),
              v: make('second moments', 'optimizer', momentBytes),
              lrScale: make('learning-rate factors', 'optimizer', (length / BLOCK) * 4),
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
