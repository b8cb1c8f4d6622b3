/** @file Putting a model and a method together on the GPU: which parameters are trained, where the frozen ones lie, what they start from. */
import type { Moments8bit } from '../autograd/ops/optimizer.ts'
import { OptionError } from '../errors.ts'
import type { Gpu } from '../gpu/device.ts'
import { touch, trial } from '../gpu/trial.ts'
import type { AdapterFiles } from '../io/adapter_files.ts'
import { parseOptions } from '../options.ts'
import type { AnyMethod, Json } from '../peft/method.ts'
import { METHODS } from '../peft/registry.ts'
import { numel } from '../tensor/graph.ts'
import { Adapter, type State } from './adapter.ts'
import { type ModelBundle, paramShape } from './bundle.ts'
import { loadState, methodOf } from './load_adapter.ts'
import { matrixFormats, requireTrainable } from './base_formats.ts'
import { fillStore } from './fill_store.ts'
import { layoutStore, requireBindable, type StoreLayout } from './model_store.ts'
import { ParamSet } from './param_set.ts'
import type { Base, Optimizer } from './run_config.ts'
import type { Tunable } from './step.ts'

/** Throws OptionError naming the methods there are. */
export function findMethod(id: string): AnyMethod {
  const m = METHODS.get(id)
  if (!m)
    throw new OptionError(`no method is named "${id}"`, { where: 'method', fix: `Expected one of: ${[...METHODS.keys()].join(', ')}` })
  return m
}

const MOMENTS: Readonly<Record<Optimizer, Moments8bit | null>> = { adamw: null, adamw_8bit: 'dynamic', adamw_coat: 'expand' }

export interface TunableOptions {
  /** How frozen weights are kept. */
  readonly base: Base
  readonly seed: number
  /** Gradients and moments too, or only the values. */
  readonly trainable: boolean
  readonly maxBindingSize: number
  /** What trains them; default: adamw. */
  readonly optim?: Optimizer
  /** The model alone, laid out with the same base: its frozen weights are used in place of own ones where they are the same. It is filled first and outlives this one. */
  readonly shared?: TunableLayout | null
}
/** An adapter that was read and found to fit. */
export interface LoadedAdapter {
  readonly method: AnyMethod
  readonly options: Json
  readonly values: State
  readonly targets: readonly string[]
  readonly notes: readonly string[]
}

/** Laid out, nothing allocated: enough for a plan. */
export class TunableLayout implements Tunable {
  readonly adapter: Adapter | null
  readonly trained: ParamSet | null
  readonly #layout: StoreLayout
  /** @param method null: the model alone. Throws OptionError for options that are none, and for what one binding cannot hold. */
  constructor(
    readonly bundle: ModelBundle,
    readonly method: AnyMethod | null,
    readonly options: Json,
    readonly o: TunableOptions,
    readonly loaded: LoadedAdapter | null = null,
  ) {
    const { maxBindingSize, trainable } = o
    const moments = MOMENTS[o.optim ?? 'adamw']
    const weights = method?.slot === 'weights'
    if (weights) parseOptions(method.options, options)
    requireTrainable(method, o.base)
    this.adapter =
      method && method.slot !== 'weights'
        ? new Adapter(bundle, method, options, { trainable, maxBindingSize, moments, ...(loaded && { targets: loaded.targets }) })
        : null
    const own = weights ? new ParamSet(Math.floor(maxBindingSize / 4), trainable, 'weights', moments) : null
    this.trained = trainable ? (this.adapter?.params ?? own) : null
    this.#replaced = new Set(replaces(this.adapter) ? this.adapter!.targets : [])
    const { shared } = o
    this.borrows =
      !!shared && !own && this.#replaced.size === 0 && shared.bundle === bundle && shared.method === null && shared.o.base === o.base
    this.#layout = this.borrows
      ? shared!.#layout
      : layoutStore(bundle, { base: o.base, trained: own, replaced: this.#replaced, maxBindingSize })
    requireBindable(this.#layout, o.base, maxBindingSize)
    this.#own = own
  }
  /** The frozen weights are those of `shared`: filled and freed with it. */
  readonly borrows: boolean
  readonly #own: ParamSet | null
  /** Modules whose frozen weight is what initialisation leaves of it. */
  readonly #replaced: ReadonlySet<string>

  get store() {
    return this.#layout.store
  }
  get storages() {
    return [...this.#layout.storages, ...(this.#own && !this.trained ? this.#own.storages() : [])]
  }
  get notes(): readonly string[] {
    return [...this.#layout.notes, ...(replaces(this.adapter) ? this.#replacedNotes() : []), ...(this.loaded?.notes ?? [])]
  }
  /** Layers that are kept as f32 although the base says otherwise. */
  #replacedNotes(): string[] {
    const format = matrixFormats(this.bundle, this.o.base)
    const targets = new Set(this.adapter!.targets)
    const wider = this.bundle.params.filter((p) => p.kind === 'linear' && targets.has(p.name) && format(p) !== 'f32')
    if (wider.length === 0) return []
    const bytes = wider.reduce((n, p) => n + 4 * numel(paramShape(p)), 0)
    return [
      `${wider.length} targeted layers are kept as f32 (${(bytes / 1e6).toFixed(1)} MB) whatever the base (${this.o.base}): this initialisation takes something out of their weights, and only what is left stays frozen.`,
    ]
  }

  /** Read the weights that the method starts from, allocate, read all weights, and set every trained parameter to its start. */
  async fill(gpu: Gpu, o: { onProgress?: (done: number, total: number) => void; signal?: AbortSignal } = {}): Promise<void> {
    const { adapter, loaded } = this
    const rest = this.borrows ? 0 : this.bundle.files.fileBytes
    const targets = adapter?.targetBytes ?? 0
    let read = 0
    const onRead = (bytes: number): void => {
      // A weight that is read again does not count again.
      read = Math.min(targets, read + bytes)
      o.onProgress?.(read, targets + rest)
      o.signal?.throwIfAborted()
    }
    const formats = new Map([...this.store.groups.values()].flat().flatMap((m) => m.members.map((x) => [x.name, m.format] as const)))
    const initial = adapter && (!loaded || adapter.replaces) ? await adapter.initial(this.o.seed, { formats, onRead }) : null
    if (!this.borrows)
      await fillStore(gpu, this.bundle, this.#layout, this.#own, {
        ...o,
        onProgress: (done, total) => o.onProgress?.(read + done, read + total),
        remainder: (name) => (this.#replaced.has(name) ? (rows, first) => adapter!.remainder(name, initial!, rows, first) : null),
      })
    if (this.adapter) {
      const { params } = this.adapter
      const refusal = {
        what: 'the adapter',
        where: 'GPU memory, adapter',
        fix: 'Use a lower rank or fewer layers; close other tabs that use the GPU',
      }
      await trial(
        gpu,
        refusal,
        () =>
          touch(
            gpu,
            params.storages().map((s) => s.allocate(gpu).buffer),
          ),
        () => params.destroy(),
      )
      this.adapter.write(this.loaded?.values ?? initial!)
    }
  }
  destroy(): void {
    if (!this.borrows) for (const s of this.#layout.storages) s.destroy()
    this.#own?.destroy()
    this.adapter?.params.destroy()
  }
}

/** GPU bytes of a model alone, every weight frozen, whether or not each can be bound. */
export function baseBytes(bundle: ModelBundle, base: Base, maxBindingSize: number): number {
  const { storages } = layoutStore(bundle, { base, trained: null, replaced: new Set(), maxBindingSize })
  return storages.reduce((n, s) => n + s.bytes, 0)
}

/** Whether the initialisation takes something out of the frozen weights. */
const replaces = (a: Adapter | null): boolean => a?.replaces ?? false

/** Read an adapter for a model. Throws AdapterError where it does not fit. */
export async function openAdapter(bundle: ModelBundle, files: AdapterFiles, overrides: Json = {}): Promise<LoadedAdapter> {
  const { method, options } = methodOf(files.config, METHODS.values())
  const merged = { ...options, ...overrides }
  const { values, targets } = await loadState(bundle, method, merged, files.tensors)
  const base = files.config.base_model_name_or_path
  const notes =
    typeof base === 'string' && base !== '' && base !== bundle.files.name
      ? [`The adapter names ${base} as its model; names and shapes fit ${bundle.files.name}.`]
      : []
  return { method, options: merged, values, targets, notes }
}
