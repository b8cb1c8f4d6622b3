/** @file A method at work on a model: its parameters placed, initialised, loaded, saved, and its hook into the network. */
import { concatColumns } from '../autograd/ops/columns.ts'
import { mix } from '../autograd/ops/pointwise.ts'
import { AdapterError, RunError } from '../errors.ts'
import { toFloat32 } from '../io/dequantize.ts'
import type { StoredTensor } from '../io/source.ts'
import type { LinearGroup, LinearHook } from '../nn/network.ts'
import { parseOptions, type Values, type Options } from '../options.ts'
import type { AnyInputMethod, AnyLinearMethod, AnyMethod, ConfigFacts, HostSite, Json, LinearSite } from '../peft/method.ts'
import { suffixes } from '../peft/targets.ts'
import { type Graph, numel, type Scalar, type Shape, type Tensor } from '../tensor/graph.ts'
import { type ModelBundle, readFloats } from './bundle.ts'
import { BLOCK, type Entry, ParamSet } from './param_set.ts'
import { drawInit, uniformStream } from './rng.ts'

/** Name of a method's parameter in PEFT's state dict. */
const stateKey = (module: string, suffix: string): string => `base_model.model.${module}.${suffix}`
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
    o: { trainable: boolean; maxBindingSize: number; targets?: readonly string[] },
  ) {
    this.options = parseOptions(method.options, options)
    this.params = new ParamSet(Math.floor(o.maxBindingSize / 4), o.trainable, 'adapter')
    if (method.slot === 'input') {
      this.#promptEntry = this.params.add([
        { key: PROMPT_KEY, shape: [method.virtualTokens(this.options), bundle.config.hiddenSize], lr: 1 },
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
    for (const name of Object.keys(specs[0]!)) {
      const runs = fused ? [members.map((_, i) => i)] : members.map((_, i) => [i])
      for (const run of runs) {
        const start = this.params.entries.length
        this.params.add(
          run.map((i) => ({
            key: stateKey(members[i]!.name, method.key(name)),
            shape: specs[i]![name]!.shape,
            lr: specs[i]![name]!.lr ?? 1,
          })),
        )
        run.forEach((i, k) => (entries[i]![name] = this.params.entries[start + k]!))
      }
    }
    members.forEach((param, i) => this.#sites.set(param.name, { param, entries: entries[i]!, fused }))
  }

  /** Module paths that the method sits on. */
  get targets(): readonly string[] {
    return [...this.#sites.keys()]
  }
  get virtualTokens(): number {
    return this.#promptEntry ? this.#promptEntry.shape[0]! : 0
  }

  /** Fill the parameters with their start values (buffers must be allocated). Returns replaced frozen weights by module path: load the model with them. */
  async initial(seed: number): Promise<{ values: State; replacements: Map<string, Float32Array<ArrayBuffer>> }> {
    const values = new Map<string, { shape: Shape; data: Float32Array<ArrayBuffer> }>()
    const replacements = new Map<string, Float32Array<ArrayBuffer>>()
    const { method, bundle } = this
    if (method.slot === 'input') {
      const { hiddenSize, vocabSize } = bundle.config
      const table = bundle.params.find((p) => p.kind === 'table')!
      const row = (id: number) => readFloats(bundle, table.name, [vocabSize, hiddenSize], id, 1)
      const data = await method.initialise(this.options, hiddenSize, vocabSize, row, uniformStream(seed, PROMPT_KEY))
      values.set(PROMPT_KEY, { shape: this.#promptEntry!.shape, data })
      return { values, replacements }
    }
    for (const [name, { param, entries }] of this.#sites) {
      const specs = method.params(facts(param), this.options)
      const draw = (p: string) => drawInit(specs[p]!.init, numel(specs[p]!.shape), uniformStream(seed, `${name}.${p}`))
      const start = method.initialise
        ? await method.initialise(hostSite(bundle, param), this.options, draw)
        : { params: Object.fromEntries(Object.keys(specs).map((p) => [p, draw(p)])) }
      for (const [p, e] of Object.entries(entries)) values.set(e.key, { shape: e.shape, data: start.params[p]! })
      if ('residual' in start && start.residual) replacements.set(name, start.residual)
    }
    return { values, replacements }
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
          Object.keys(entries[0]!).map((name) => [
            name,
            this.#bind(
              g,
              entries.map((e) => e[name]!),
            ),
          ]),
        )
        const y = method.forward(x, site, p, this.options, { training: o.training, seed: o.seed, stream: order.get(site.members[0]!)! })
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
      return parts.length === 1 ? parts[0]! : concatColumns(parts)
    }
  }

  /** The trained prompt in a graph, or null. */
  prompt(g: Graph): Tensor | null {
    return this.#promptEntry && this.#bind(g, [this.#promptEntry])
  }

  #bind(g: Graph, entries: readonly Entry[]): Tensor {
    const first = entries[0]!
    const shape = [entries.reduce((n, e) => n + e.shape[0]!, 0), ...first.shape.slice(1)]
    const place = this.params.place(first)
    const gradient = this.params.gradient(first)
    const sink = gradient && g.leaf(gradient.storage, shape, { byteOffset: gradient.byteOffset })
    return g.leaf(place.storage, shape, { byteOffset: place.byteOffset, needsGrad: sink !== null, sink })
  }

  config(baseModel: string): Json {
    const { heads, layers, hiddenSize } = this.bundle.config
    const f: ConfigFacts = { targets: suffixes(this.targets).sort(), baseModel, hiddenSize, layers, heads }
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
    const { method, bundle } = this
    const own = this.#sites.get(name)
    if (method.slot !== 'linear' || !own) throw new RunError(`${name} has no adapter to merge`, { where: method.title })
    const site = hostSite(bundle, own.param)
    const p = Object.fromEntries(Object.entries(own.entries).map(([k, e]) => [k, state.get(e.key)!.data]))
    const init: unknown = this.options.init_lora_weights
    // Where initialisation replaced the frozen weight, the update belongs to the remainder.
    const replaced =
      method.initialise && (init === 'pissa' || init === 'olora')
        ? await method.initialise(site, this.options, () => new Float32Array(0))
        : null
    return method.merge(site, replaced?.residual ?? new Float32Array(await site.weight()), p, this.options)
  }
}

const facts = (p: LinearParam): Pick<HostSite, 'name' | 'inFeatures' | 'outFeatures'> => ({
  name: p.name,
  inFeatures: p.cols,
  outFeatures: p.rows,
})
const hostSite = (b: ModelBundle, p: LinearParam): HostSite => ({
  ...facts(p),
  weight: () => readFloats(b, `${p.name}.weight`, [p.rows, p.cols]),
})

function siteOf(group: LinearGroup, members: LinearGroup['members']): LinearSite {
  const from = members[0]!.from
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
    bias: whole ? group.bias : null,
    residual: whole ? group.residual : null,
    base: (x, { residual = true } = {}) => group.base(x, { from, rows }, { residual: residual && whole }),
  }
}

function byGroup(b: ModelBundle): LinearParam[][] {
  const groups = new Map<string, LinearParam[]>()
  for (const p of b.params) if (p.kind === 'linear') groups.set(p.group, [...(groups.get(p.group) ?? []), p])
  return [...groups.values()]
}

/** The method and options of an adapter_config.json. Throws AdapterError where there is none here. */
export function methodOf(config: Json, methods: Iterable<AnyMethod>): { method: AnyLinearMethod | AnyInputMethod; options: Json } {
  const type = config.peft_type
  const list = [...methods]
  for (const m of list)
    if (m.slot !== 'weights' && m.peftType === type && m.matches(config)) return { method: m, options: m.fromConfig(config) }
  const known = [...new Set(list.flatMap((m) => (m.slot === 'weights' ? [] : [m.peftType])))].join(', ')
  throw new AdapterError(`peft_type ${JSON.stringify(type ?? null)} is not supported`, {
    where: 'adapter_config.json',
    why: 'it says what the tensors mean',
    fix: `Use an adapter of one of: ${known}`,
  })
}

/** Read an adapter's tensors and find the modules they sit on. Checks names and shapes against the model. */
export async function loadState(
  b: ModelBundle,
  method: AnyLinearMethod | AnyInputMethod,
  options: Json,
  tensors: ReadonlyMap<string, StoredTensor>,
): Promise<{ values: State; targets: readonly string[] }> {
  const values = new Map<string, { shape: Shape; data: Float32Array<ArrayBuffer> }>()
  const o = parseOptions(method.options, options)
  const read = async (key: string, t: StoredTensor, shape: Shape): Promise<void> => {
    if (t.shape.length !== shape.length || t.shape.some((n, i) => n !== shape[i]))
      throw new AdapterError(`the shape is [${t.shape.join(', ')}], this model and config need [${shape.join(', ')}]`, {
        where: `adapter_model.safetensors, ${t.name}`,
        why: 'the adapter was trained on another model, or its config was changed',
        fix: 'Load the model that the adapter was trained on',
      })
    const data = toFloat32(t.type, await t.source.read(t.offset, t.bytes), numel(shape))
    const bad = data.findIndex((v) => !Number.isFinite(v))
    if (bad >= 0)
      throw new AdapterError(`element ${bad} is ${data[bad]}`, {
        where: `adapter_model.safetensors, ${t.name}`,
        why: 'every output would be NaN',
        fix: 'Export the adapter again from a run that did not diverge',
      })
    values.set(key, { shape, data })
  }
  if (method.slot === 'input') {
    const t = tensors.get(PROMPT_KEY)
    if (!t)
      throw new AdapterError(`the tensor ${PROMPT_KEY} is missing`, { where: 'adapter_model.safetensors', fix: 'Export the adapter again' })
    await read(PROMPT_KEY, t, [method.virtualTokens(o), b.config.hiddenSize])
    return { values, targets: [] }
  }
  // "….lora_magnitude_vector.weight" and an adapter's name left in a key are accepted, as PEFT does.
  const normal = (name: string) => name.replace(/\.default(?=\.|$)/, '').replace(/(lora_magnitude_vector)\.weight$/, '$1')
  const byKey = new Map([...tensors].map(([name, t]) => [normal(name), t]))
  const targets: string[] = []
  for (const p of b.params) {
    if (p.kind !== 'linear') continue
    const specs = Object.entries(method.params(facts(p), o)).map(([name, spec]) => ({ key: stateKey(p.name, method.key(name)), spec }))
    const found = specs.filter(({ key }) => byKey.has(key))
    if (found.length === 0) continue
    const missing = specs.find(({ key }) => !byKey.has(key))
    if (missing)
      throw new AdapterError(`the tensor ${missing.key} is missing`, {
        where: 'adapter_model.safetensors',
        why: `${found[0]!.key} is there, and the two belong together`,
        fix: 'Export the adapter again',
      })
    for (const { key, spec } of specs) {
      await read(key, byKey.get(key)!, spec.shape)
      byKey.delete(key)
    }
    targets.push(p.name)
  }
  const left = [...byKey.keys()][0]
  if (left !== undefined || targets.length === 0)
    throw new AdapterError(left === undefined ? 'there is no tensor for this model' : `the tensor ${left} has no place in this model`, {
      where: 'adapter_model.safetensors',
      why: 'the adapter was trained on a model with other layers, or with another method',
      fix: 'Load the model that the adapter was trained on',
    })
  return { values, targets }
}
