/** @file What of one model lies on the GPU, and who owns it. The model alone (`base`) is filled when first needed and shared by every layout with the same
 * frozen weights; layouts with weights of their own (full fine-tuning, PiSSA, OLoRA, another base) make it go first, if nobody uses it. */
import { RunError } from '../../errors.ts'
import type { Gpu } from '../../gpu/device.ts'
import { trial } from '../../gpu/trial.ts'
import type { AnyMethod, Json } from '../../peft/method.ts'
import type { ModelBundle } from '../../train/bundle.ts'
import { Generator } from '../../train/generator.ts'
import type { Base, Optimizer } from '../../train/run_config.ts'
import type { Tunable } from '../../train/step.ts'
import { type LoadedAdapter, TunableLayout } from '../../train/tunable.ts'

export interface Hooks {
  readonly onProgress?: (label: string, done: number, total: number) => void
  readonly signal?: AbortSignal
}
export interface Wanted {
  readonly method: AnyMethod
  readonly options: Json
  readonly base: Base
  readonly seed: number
  readonly trainable: boolean
  readonly optim?: Optimizer
  readonly loaded: LoadedAdapter | null
}
interface Kept {
  readonly generator: Generator
  readonly mixing: boolean
}

/** Generators are made for multiples of this many tokens, so that a longer prompt rarely makes a new one. */
const CAPACITY_STEP = 256
/** Of the generator that writes `length` tokens, a trained prompt's not counted. */
export const capacityFor = (t: Tunable, length: number): number =>
  Math.ceil((length + (t.adapter?.virtualTokens ?? 0)) / CAPACITY_STEP) * CAPACITY_STEP

const CUT = 'Close other tabs that use the GPU, end a paused run, or use a smaller model'

export class Room {
  #base: TunableLayout | null = null
  readonly #layouts = new Set<TunableLayout>()
  readonly #generators = new Map<TunableLayout, Kept>()

  constructor(
    readonly gpu: Gpu,
    readonly bundle: ModelBundle,
  ) {}

  /** How the model alone is kept while it is there. */
  get kept(): Base | null {
    return this.#base?.o.base ?? null
  }

  /** The model alone. @param as how its weights are kept where it is not there yet */
  async base(as: Base, hooks: Hooks = {}): Promise<TunableLayout> {
    if (this.#base) return this.#base
    const base = this.#layoutBase(as)
    await this.#fill(base, hooks)
    return (this.#base = base)
  }

  /** A method on the model, its parameters at their start. Free it with `release`. */
  async layout(w: Wanted, hooks: Hooks = {}): Promise<TunableLayout> {
    const { maxBindingSize } = this.gpu.traits
    const candidate = this.#base?.o.base === w.base ? this.#base : this.#layoutBase(w.base)
    const o = { base: w.base, seed: w.seed, trainable: w.trainable, maxBindingSize, shared: candidate, ...(w.optim && { optim: w.optim }) }
    const t = new TunableLayout(this.bundle, w.method, w.options, o, w.loaded)
    if (candidate !== this.#base && t.borrows) {
      if (!this.freeBase())
        throw new RunError(`the frozen weights are in use as ${this.kept ?? ''}`, {
          where: 'base',
          fix: 'Unload the adapter or end the run that uses them first',
        })
      await this.#fill(candidate, hooks)
      this.#base = candidate
    } else if (!t.borrows && w.trainable) this.freeBase()
    this.#layouts.add(t)
    try {
      await t.fill(this.gpu, fillHooks(hooks, t.borrows ? 'Preparing the adapter' : 'Loading the weights'))
      return t
    } catch (e) {
      this.release(t)
      throw e
    }
  }

  /** Text of a layout, at strength 1. `length`: tokens it must hold, a trained prompt's not counted. `mixing`: its strength can be set. */
  async generator(t: TunableLayout, length: number, mixing: boolean): Promise<Generator> {
    const virtual = t.adapter?.virtualTokens ?? 0
    const kept = this.#generators.get(t)
    if (kept && kept.generator.capacity >= length + virtual && (kept.mixing || !mixing)) {
      kept.generator.strength.value = 1
      return kept.generator
    }
    kept?.generator.destroy()
    this.#generators.delete(t)
    const mix = mixing || (kept?.mixing ?? false)
    const make = () => Generator.create(this.gpu, t, { capacity: capacityFor(t, length), mixing: mix })
    const generator = await trial(this.gpu, { what: 'the keys and values of generation', fix: CUT }, make, (g) => g?.destroy())
    this.#generators.set(t, { generator, mixing: mix })
    return generator
  }

  /** Runs what may bring the model alone to the GPU. Where it is cancelled, that does not stay there. */
  async cancellable<T>(signal: AbortSignal, body: () => Promise<T>): Promise<T> {
    const before = this.#base
    try {
      return await body()
    } catch (e) {
      if (signal.aborted && this.#base !== before) this.freeBase()
      throw e
    }
  }

  /** Free what text is written with, of every layout: it comes back when it is used. */
  freeGenerators(): void {
    for (const { generator } of this.#generators.values()) generator.destroy()
    this.#generators.clear()
  }

  release(t: TunableLayout): void {
    this.#generators.get(t)?.generator.destroy()
    this.#generators.delete(t)
    this.#layouts.delete(t)
    t.destroy()
  }

  /** Free the model alone, unless a layout uses it. Returns whether it is gone. */
  freeBase(): boolean {
    if (!this.#base) return true
    if ([...this.#layouts].some((t) => t.borrows)) return false
    this.release(this.#base)
    this.#base = null
    return true
  }

  destroy(): void {
    for (const t of [...this.#layouts]) this.release(t)
    this.freeBase()
  }

  #layoutBase(base: Base): TunableLayout {
    return new TunableLayout(this.bundle, null, {}, { base, seed: 0, trainable: false, maxBindingSize: this.gpu.traits.maxBindingSize })
  }
  async #fill(t: TunableLayout, hooks: Hooks): Promise<void> {
    try {
      await t.fill(this.gpu, fillHooks(hooks, 'Loading the weights'))
    } catch (e) {
      t.destroy()
      throw e
    }
  }
}

const fillHooks = (hooks: Hooks, label: string) => ({
  ...(hooks.signal && { signal: hooks.signal }),
  ...(hooks.onProgress && { onProgress: (done: number, total: number) => hooks.onProgress?.(label, done, total) }),
})
