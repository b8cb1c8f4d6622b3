/** @file A method at work on a model: its parameters placed, initialised, loaded, saved, and its hook into the network. */
import { concatColumns } from '../autograd/ops/columns.ts'
import type { Moments8bit } from '../autograd/ops/optimizer.ts'
import { mix } from '../autograd/ops/pointwise.ts'
import { RunError } from '../errors.ts'
import type { WeightFormat } from '../kernels/weight_formats.ts'
import { embeddingSize } from '../models/family.ts'
import type { LinearGroup, LinearHook } from '../nn/network.ts'
import { parseOptions, type Values, type Options } from '../options.ts'
import type { AnyInputMethod, AnyLinearMethod, ConfigFacts, HostSite, Json, LinearSite } from '../peft/method.ts'
import { shortNames } from '../peft/targets.ts'
import { type Graph, numel, type Scalar, type Shape, type Tensor } from '../tensor/graph.ts'
import { type ModelBundle, readFloats, stored } from './bundle.ts'
import { hostSite, type OnRead } from './host_weights.ts'
import { BLOCK, type Entry, ParamSet } from './param_set.ts'
import { drawInit, uniformStream } from './rng.ts'

/** Name of a method's parameter in PEFT's state dict. */
export const stateKey = (module: string, suffix: string): string => `base_model.model.${module}.${suffix}`
export const PROMPT_KEY = 'prompt_embeddings'
type LinearParam = Extract<ModelBundle['params'][number], { kind: 'linear' }>

interface Site {
  readonly param: LinearParam
  readonly entries: Readonly<Record<string, Entry>>
  /** Its parameters lie beside those of the other members of its group. */
  readonly fused: boolean
}
export type State = ReadonlyMap<string, { readonly shape: Shape; readonly data: Float32Array<ArrayBuffer> }>

export class Adapter {
  readonly options: Values<Options>
  readonly params: ParamSet
  readonly #sites = new Map<string, Site>()
  #promptEntry: Entry | null = null

  /** @param targets module paths, for a method on linear layers: by default those that its options select. */
  constructor(
    readonly bundle: ModelBundle,
    readonly method: AnyLinearMethod | AnyInputMethod,
    options: Json,
    o: { trainable: boolean; maxBindingSize: number; moments?: Moments8bit | null; targets?: readonly string[] },
  ) {
    this.options = parseOptions(method.options, options)
    this.params = new ParamSet(Math.floor(o.maxBindingSize / 4), o.trainable, 'adapter', o.moments)
    if (method.slot === 'input') {
      this.#promptEntry = this.params.add([
        { key: PROMPT_KEY, shape: [method.virtualTokens(this.options), embeddingSize(bundle.config)], lr: 1 },
      ])
      return
    }
    const targets = new Set(o.targets ?? method.targets(this.options, bundle.linears))
    for (const group of byGroup(bundle))
      this.#place(
        method,
        group.filter((p) => targets.has(p.name)),
      )
  }

  /** Members' parameters of one name lie one after another, so that a fused projection sees them as one. */
  #place(method: AnyLinearMethod, members: readonly LinearParam[]): void {
    if (members.length === 0) return
    const specs = members.map((p) => method.params(facts(p), this.options))
    const entries = members.map((): Record<string, Entry> => ({}))
    // Views start at multiples of a block: only then may members' parameters be bound alone as well as together.
    const fused = method.fused && specs.every((s) => Object.values(s).every(({ shape }) => numel(shape) % BLOCK === 0))
    for (const name of Object.keys(specs[0])) {
      const runs = fused ? [members.map((_, i) => i)] : members.map((_, i) => [i])
      for (const run of runs) {
        const start = this.params.entries.length
        this.params.add(
          run.map((i) => ({
            key: stateKey(members[i].name, method.key(name)),
            shape: specs[i][name].shape,
            lr: specs[i][name].lr ?? 1,
          })),
        )
        run.forEach((i, k) => (entries[i][name] = this.params.entries[start + k]!))
      }
    }
    members.forEach((param, i) => this.#sites.set(param.name, { param, entries: entries[i], fused }))
  }

  /** Whether initialisation takes something out of the frozen weights, so that they are kept as f32: see `remainder`. */
  get replaces(): boolean {
    return this.method.slot === 'linear' && this.method.replaces?.(this.options) === true
  }
  /** Module paths that the method sits on. */
  get targets(): readonly string[] {
    return [...this.#sites.keys()]
  }
  get virtualTokens(): number {
    return this.#promptEntry ? this.#promptEntry.shape[0] : 0
  }

  /** Bytes of the weights that the method sits on, in the file. */
  get targetBytes(): number {
    return [...this.#sites.values()].reduce((n, { param: p }) => n + stored(this.bundle, `${p.name}.weight`, [p.rows, p.cols]).bytes, 0)
  }

  /** Values of the parameters at the start. `formats`: how each module's weight is kept; `onRead`: told of what is read of the targeted weights, `targetBytes`
   * at most. */
  async initial(seed: number, o: { formats?: ReadonlyMap<string, WeightFormat>; onRead?: OnRead } = {}): Promise<State> {
    const values = new Map<string, { shape: Shape; data: Float32Array<ArrayBuffer> }>()
    const { method, bundle } = this
    if (method.slot === 'input') {
      const { vocabSize, embedScale = 1 } = bundle.config
      const width = embeddingSize(bundle.config)
      const table = bundle.params.find((p) => p.kind === 'table')!
      // What the model reads for a token: PEFT asks its embedding, and Gemma's multiplies.
      const row = async (id: number) => (await readFloats(bundle, table.name, [vocabSize, width], id, 1)).map((v) => v * embedScale)
      const data = await method.initialise(this.options, width, vocabSize, row, uniformStream(seed, PROMPT_KEY))
      values.set(PROMPT_KEY, { shape: this.#promptEntry!.shape, data })
      return values
    }
    for (const [name, { param, entries }] of this.#sites) {
      const specs = method.params(facts(param), this.options)
      const draw = (p: string) => drawInit(specs[p].init, numel(specs[p].shape), uniformStream(seed, `${name}.${p}`))
      const site = hostSite(bundle, param, o.formats?.get(name), o.onRead)
      const start = method.initialise
        ? await method.initialise(site, this.options, draw)
        : { params: Object.fromEntries(Object.keys(specs).map((p) => [p, draw(p)])) }
      for (const [p, e] of Object.entries(entries)) values.set(e.key, { shape: e.shape, data: start.params[p] })
    }
    return values
  }

  /** What is left of the rows of a module's frozen weight from row `first` on, where initialisation took something out of it. `start`: what `initial` returned. */
  remainder(name: string, start: State, rows: Float32Array<ArrayBuffer>, first: number): Float32Array<ArrayBuffer> {
    const { method, p } = this.#at(name, start)
    return method.remainder!(rows, first, p, this.options)
  }

  write(values: State): void {
    for (const e of this.params.entries) this.params.write(e, values.get(e.key)!.data)
  }

  /** Hook for a network over this adapter. `strength` mixes frozen and adapted outputs (1: the adapter as trained); null: no mixing. */
  hook(g: Graph, o: { training: boolean; seed: Scalar; strength: Scalar | null }): LinearHook | null {
    const { method } = this
    if (method.slot !== 'linear') return null
    const order = new Map([...this.#sites.keys()].map((name, i) => [name, i]))
    return (x, group) => {
      const targeted = group.members.filter((m) => this.#sites.has(m.name))
      if (targeted.length === 0) return null
      const apply = (site: LinearSite, entries: readonly Readonly<Record<string, Entry>>[]): Tensor => {
        const p = Object.fromEntries(
          Object.keys(entries[0]).map((name) => [
            name,
            this.#bind(
              g,
              entries.map((e) => e[name]),
            ),
          ]),
        )
        const y = method.forward(x, site, p, this.options, { training: o.training, seed: o.seed, stream: order.get(site.members[0])! })
        return o.strength ? mix(y, site.base(x), o.strength) : y
      }
      const together = group.members.length === 1 || targeted.every((m) => this.#sites.get(m.name)!.fused)
      if (together && targeted.length === group.members.length)
        return apply(
          siteOf(group, group.members),
          targeted.map((m) => this.#sites.get(m.name)!.entries),
        )
      const parts = group.members.map((m) => {
        const site = siteOf(group, [m])
        const own = this.#sites.get(m.name)
        return own ? apply(site, [own.entries]) : site.base(x)
      })
      return parts.length === 1 ? parts[0] : concatColumns(parts)
    }
  }

  /** The trained prompt in a graph, or null. */
  prompt(g: Graph): Tensor | null {
    return this.#promptEntry && this.#bind(g, [this.#promptEntry])
  }

  #bind(g: Graph, entries: readonly Entry[]): Tensor {
    const first = entries[0]
    const shape = [entries.reduce((n, e) => n + e.shape[0], 0), ...first.shape.slice(1)]
    const place = this.params.place(first)
    const gradient = this.params.gradient(first)
    const sink = gradient && g.leaf(gradient.storage, shape, { byteOffset: gradient.byteOffset })
    return g.leaf(place.storage, shape, { byteOffset: place.byteOffset, needsGrad: sink !== null, sink })
  }

  config(baseModel: string): Json {
    const { heads, layers } = this.bundle.config
    const paths = [...this.targets].sort()
    const fanInFanOut = paths.some((p) => this.bundle.family.conv1d?.(p) === true)
    const f: ConfigFacts = {
      targets: shortNames(paths, this.bundle.linears),
      paths,
      baseModel,
      embeddingSize: embeddingSize(this.bundle.config),
      layers,
      heads,
      fanInFanOut,
    }
    return {
      ...this.method.toConfig(this.options, f),
      peft_type: this.method.peftType,
      task_type: 'CAUSAL_LM',
      base_model_name_or_path: baseModel,
      revision: null,
      auto_mapping: null,
      inference_mode: true,
    }
  }

  /** State-dict keys and shapes of each module's parameters. */
  sites(): { readonly name: string; readonly keys: Readonly<Record<string, string>>; readonly shapes: Readonly<Record<string, Shape>> }[] {
    return [...this.#sites].map(([name, { entries }]) => ({
      name,
      keys: Object.fromEntries(Object.entries(entries).map(([p, e]) => [p, e.key])),
      shapes: Object.fromEntries(Object.entries(entries).map(([p, e]) => [p, e.shape])),
    }))
  }

  /** The frozen weight of a module with the adapter written into it, [out, in]. */
  async mergedWeight(name: string, state: State): Promise<Float32Array<ArrayBuffer>> {
    const { method, site, p } = this.#at(name, state)
    const weight = await site.weight()
    if (!this.replaces || !method.initialise) return method.merge(site, weight, p, this.options)
    // The update belongs to what initialisation left of the frozen weight.
    const start = await method.initialise(site, this.options, () => new Float32Array(0))
    return method.merge(site, method.remainder!(weight, 0, start.params, this.options), p, this.options)
  }
  /** The bias that belongs to it. */
  async mergedBias(name: string, state: State): Promise<Float32Array<ArrayBuffer>> {
    const { method, site, p } = this.#at(name, state)
    const bias = await readFloats(this.bundle, `${name}.bias`, [site.outFeatures])
    return method.mergeBias?.(site, bias, p, this.options) ?? bias
  }
  /** A module that the method sits on, with its parameters. */
  #at(name: string, state: State) {
    const { method, bundle } = this
    const own = this.#sites.get(name)
    if (method.slot !== 'linear' || !own) throw new RunError(`${name} has no adapter`, { where: method.title })
    const p = Object.fromEntries(Object.entries(own.entries).map(([k, e]) => [k, state.get(e.key)!.data]))
    return { method, site: hostSite(bundle, own.param), p }
  }
}

/** What a method's parameters depend on. */
export const facts = (p: LinearParam): Pick<HostSite, 'name' | 'inFeatures' | 'outFeatures'> => ({
  name: p.name,
  inFeatures: p.cols,
  outFeatures: p.rows,
})

function siteOf(group: LinearGroup, members: LinearGroup['members']): LinearSite {
  const from = members[0].from
  const rows = members.reduce((n, m) => n + m.rows, 0)
  const whole = rows === group.weight.rows
  return {
    name: group.name,
    members: members.map((m) => m.name),
    inFeatures: group.weight.cols,
    outFeatures: rows,
    weight: group.weight,
    range: { from, rows },
    segments: members.slice(1).map((m) => m.from - from),
    bias: group.bias(from, rows),
    residual: whole ? group.residual : null,
    base: (x, { residual = true } = {}) => group.base(x, { from, rows }, { residual: residual && whole }),
  }
}

function byGroup(b: ModelBundle): LinearParam[][] {
  const groups = new Map<string, LinearParam[]>()
  for (const p of b.params) if (p.kind === 'linear') groups.set(p.group, [...(groups.get(p.group) ?? []), p])
  return [...groups.values()]
}
