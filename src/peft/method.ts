/** @file What a PEFT method declares. The engine, the exporter, the CLI and the page know methods only through this.
 *
 * To add one: its file beside this one, its test, and its line in registry.ts. Its gradient is its ops'; its parameter names are the names in
 * the exported state dict; its option declaration is its type, default, check, form and CLI flags. */
import type { RowRange } from '../autograd/ops/linear.ts'
import type { Options, Values } from '../options.ts'
import type { Scalar, Shape, Tensor } from '../tensor/graph.ts'
import type { Weight } from '../tensor/weight.ts'

export type Init = 'zeros' | 'ones' | { readonly uniform: number } | { readonly normal: number }

/** A linear layer, or several that share an input and were fused into one (q|k|v, gate|up). */
export interface LinearSite {
  /** Module path as Hugging Face names it, or the fused group's. */
  readonly name: string
  /** Path of each member, in order of their rows. One, unless the method is `fused`. */
  readonly members: readonly string[]
  readonly inFeatures: number
  readonly outFeatures: number
  /** Frozen weight [.., in] in its storage format, and this layer's rows of it. */
  readonly weight: Weight
  readonly range: RowRange
  /** Columns at which the second and third member begin; empty for one member. */
  readonly segments: readonly number[]
  readonly bias: Tensor | null
  /** Added to the output, if the layer ends a residual branch. The method must add it (base, lowRankLinear do). */
  readonly residual: Tensor | null
  /** The frozen layer: [M, in] → [M, out], with bias and, unless `residual` is false, the residual. */
  base(x: Tensor, o?: { residual?: boolean }): Tensor
}

/** What changes between training and use, and the counters that randomness is drawn from. */
export interface MethodContext {
  readonly training: boolean
  /** Differs at every step. */
  readonly seed: Scalar
  /** Differs at every site. */
  readonly stream: number
}

/** A linear layer on the host, as far as parameters depend on it. */
export interface HostSite {
  readonly name: string
  readonly inFeatures: number
  readonly outFeatures: number
  /** Rows of the frozen weight, row-major [rows, in]: all, or `rows` from `first` on. The copy is the caller's. */
  weight(first?: number, rows?: number): Promise<Float32Array<ArrayBuffer>>
}

export interface ParamSpec {
  readonly shape: Shape
  readonly init: Init
  /** Multiplies the learning rate (LoRA+). */
  readonly lr?: number
}
export interface Initial {
  readonly params: Readonly<Record<string, Float32Array<ArrayBuffer>>>
}

/** What a config needs to know beyond the options. */
export interface ConfigFacts {
  /** Names that select exactly the layers the adapter sits on: last components of their paths, or the paths themselves where those would select more. */
  readonly targets: readonly string[]
  /** Their paths. */
  readonly paths: readonly string[]
  readonly baseModel: string
  /** Width of a token's embedding. */
  readonly embeddingSize: number
  readonly layers: number
  readonly heads: number
  /** Adapted layers are Conv1D in Transformers, which holds their weights as [in, out]. */
  readonly fanInFanOut: boolean
}
export type Json = Readonly<Record<string, unknown>>

interface Common<O extends Options> {
  readonly id: string
  readonly title: string
  /** One line: what it trains. */
  readonly summary: string
  /** Where the equations come from. */
  readonly paper: { readonly cite: string; readonly url: string }
  readonly options: O
  /** Run options that work for this method, where they differ from the general ones. */
  readonly runDefaults: Readonly<Record<string, number | string | boolean>>
  /** The rate in `runDefaults` is for a model of width 576 and falls with the width: what is trained are matrices of that width. */
  readonly rateByWidth: boolean
  /** Whether the result can be written back into the weights. */
  readonly merges: boolean
}

/** A method that acts on linear layers. */
export interface LinearMethod<O extends Options, P extends string> extends Common<O> {
  readonly slot: 'linear'
  /** `peft_type` of adapter_config.json; null: PEFT has no such method. */
  readonly peftType: string
  /** Whether `forward` takes fused projections (sites with segments): params of members then lie one after another along their first axis. */
  readonly fused: boolean
  /** Module names that are adapted, out of those that the model has. */
  targets(o: Values<O>, available: readonly string[]): readonly string[]
  /** The tensors that the method adds at one linear layer. */
  params(site: Pick<HostSite, 'name' | 'inFeatures' | 'outFeatures'>, o: Values<O>): Readonly<Record<P, ParamSpec>>
  /** Suffix of a parameter in the state dict, after the module path. */
  key(param: P): string
  /** Values at the start, where `init` does not say it. `draw` is the default initialisation of one parameter. */
  initialise?(site: HostSite, o: Values<O>, draw: (param: P) => Float32Array<ArrayBuffer>): Promise<Initial>
  /** Output of the adapted layer for x [M, in]. */
  forward(x: Tensor, site: LinearSite, p: Readonly<Record<P, Tensor>>, o: Values<O>, ctx: MethodContext): Tensor
  /** The weight [out, in] that alone equals the adapted layer, on the host. */
  merge(site: HostSite, weight: Float32Array<ArrayBuffer>, p: Readonly<Record<P, Float32Array>>, o: Values<O>): Float32Array<ArrayBuffer>
  /** The bias that goes with the merged weight, where the method changes it too. */
  mergeBias?(site: HostSite, bias: Float32Array<ArrayBuffer>, p: Readonly<Record<P, Float32Array>>, o: Values<O>): Float32Array<ArrayBuffer>
  /** Whether `initialise` takes something out of the frozen weight (PiSSA, OLoRA): `remainder` is trained beside. */
  replaces?(o: Values<O>): boolean
  /** What is left of the rows of the frozen weight from row `first` on. `start`: what `initialise` returned. */
  remainder?(
    rows: Float32Array<ArrayBuffer>,
    first: number,
    start: Readonly<Record<P, Float32Array>>,
    o: Values<O>,
  ): Float32Array<ArrayBuffer>
  /** The same layer beside the original weight, where initialisation replaced it: what others can load. `start`: what `initialise` returned. */
  standalone?(
    p: Readonly<Record<P, Float32Array>>,
    start: Readonly<Record<P, Float32Array>>,
    o: Values<O>,
  ): { readonly options: Values<O>; readonly params: Readonly<Record<P, Float32Array<ArrayBuffer>>> }
  toConfig(o: Values<O>, facts: ConfigFacts): Json
  /** Whether an adapter_config.json of this peft_type is this method. */
  matches(config: Json): boolean
  /** Options of a config. Throws AdapterError for what cannot be honoured. */
  fromConfig(config: Json): Values<O>
}
/** A method that puts trained vectors before the input. */
export interface InputMethod<O extends Options> extends Common<O> {
  readonly slot: 'input'
  readonly peftType: string
  virtualTokens(o: Values<O>): number
  /** [virtualTokens, hidden]. `row` reads the embedding of a token. */
  initialise(
    o: Values<O>,
    hidden: number,
    vocab: number,
    row: (id: number) => Promise<Float32Array>,
    uniform: () => number,
  ): Promise<Float32Array<ArrayBuffer>>
  toConfig(o: Values<O>, facts: ConfigFacts): Json
  matches(config: Json): boolean
  fromConfig(config: Json): Values<O>
}
/** A method that trains the model's own weights. */
export interface WeightMethod<O extends Options> extends Common<O> {
  readonly slot: 'weights'
}

export type AnyLinearMethod = LinearMethod<Options, string>
export type AnyInputMethod = InputMethod<Options>
export type AnyMethod = AnyLinearMethod | AnyInputMethod | WeightMethod<Options>

/** Checks a declaration's types where it is written, and erases them for the registry. */
export const defineLinear = <O extends Options, P extends string>(m: LinearMethod<O, P>): AnyLinearMethod => m
export const defineInput = <O extends Options>(m: InputMethod<O>): AnyInputMethod => m
export const defineWeights = <O extends Options>(m: WeightMethod<O>): WeightMethod<Options> => m
