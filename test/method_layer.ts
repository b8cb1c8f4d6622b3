/** @file A linear layer (or a fused pair, or one member of it) with a method on it, outside of any model: run with chosen parameters, and the same
 * computed from its merged weights in double precision. */
import { backward } from '../src/autograd/backward.ts'
import { linear } from '../src/autograd/ops/linear.ts'
import { fromFloat32, toFloat32 } from '../src/io/dequantize.ts'
import { packNibbles, packQ8 } from '../src/io/pack/blocks.ts'
import { packF16 } from '../src/io/repack.ts'
import type { Options, Values } from '../src/options.ts'
import type { AnyLinearMethod, HostSite, LinearSite } from '../src/peft/method.ts'
import { Graph, numel, ScalarInput, type Shape, type Tensor } from '../src/tensor/graph.ts'
import { Session, SessionPlan } from '../src/tensor/program.ts'
import { Storage } from '../src/tensor/storage.ts'
import type { WeightFormat } from '../src/kernels/weight_formats.ts'
import type { Weight } from '../src/tensor/weight.ts'
import { drawInit, uniformStream } from '../src/train/rng.ts'
import { gpu, randn, target } from './gpu.ts'
import { blocks } from './tiny.ts'

type F32 = Float32Array<ArrayBuffer>
export type Kind = 'single' | 'member' | 'fused'
/** Tokens, inputs, rows of the whole weight. */
export const [M, K, ROWS] = [7, 32, 40]
const MEMBERS: Readonly<Record<Kind, readonly { name: string; from: number; rows: number }[]>> = {
  single: [{ name: 'model.layers.0.mlp.down_proj', from: 0, rows: 40 }],
  member: [{ name: 'model.layers.0.self_attn.v_proj', from: 16, rows: 24 }],
  fused: [
    { name: 'model.layers.0.self_attn.k_proj', from: 0, rows: 16 },
    { name: 'model.layers.0.self_attn.v_proj', from: 16, rows: 24 },
  ],
}

/** A random weight [ROWS, K] as the GPU stores it, and the values that it means. */
function makeWeight(format: WeightFormat): {
  values: F32
  data: F32 | Uint32Array<ArrayBuffer>
  scales: F32 | Uint32Array<ArrayBuffer> | null
} {
  const raw = randn([ROWS, K], 11, 0.2)
  if (format === 'f32') return { values: raw, data: raw, scales: null }
  if (format === 'f16') return { values: toFloat32('F16', fromFloat32('F16', raw), raw.length), data: packF16(raw), scales: null }
  const type = format === 'q4_1' ? 'Q4_1' : 'Q8_0'
  const bytes = blocks(type, raw)
  const { data, scales } = (type === 'Q4_1' ? packNibbles(true, false) : packQ8)(bytes)
  return { values: toFloat32(type, bytes, raw.length), data, scales }
}

interface Member {
  readonly site: HostSite
  readonly rows: number
  /** The frozen weight that the method trains beside. */
  readonly frozen: F32
  readonly start: Readonly<Record<string, F32>>
}

export class AdaptedLayer {
  readonly x = randn([M, K], 12)
  readonly G: F32
  readonly #bias: F32
  readonly #residual: F32 | null
  private constructor(
    readonly method: AnyLinearMethod,
    readonly options: Values<Options>,
    readonly members: readonly Member[],
    /** Of a parameter of all members together. */
    readonly shapes: Readonly<Record<string, Shape>>,
    readonly rows: number,
    hasResidual: boolean,
  ) {
    this.G = randn([M, rows], 13)
    this.#bias = randn([rows], 14)
    this.#residual = hasResidual ? randn([M, rows], 15) : null
  }
  #session: Session | null = null
  readonly #storages = new Map<string, Storage>()
  readonly #tensors: Record<string, Tensor> = {}

  static async create(method: AnyLinearMethod, options: Values<Options>, kind: Kind, format: WeightFormat): Promise<AdaptedLayer> {
    const w = makeWeight(format)
    const own = MEMBERS[kind]
    const from = own[0].from
    const rows = own.reduce((n, m) => n + m.rows, 0)
    const original = w.values.slice()
    const members: Member[] = []
    const shapes: Record<string, Shape> = {}
    for (const m of own) {
      const W = original.slice(m.from * K, (m.from + m.rows) * K)
      const site: HostSite = { name: m.name, inFeatures: K, outFeatures: m.rows, weight: async () => W }
      const specs = method.params(site, options)
      const draw = (p: string) => drawInit(specs[p].init, numel(specs[p].shape), uniformStream(5, `${m.name}.${p}`))
      const initial = (await method.initialise?.(site, options, draw)) ?? {
        params: Object.fromEntries(Object.keys(specs).map((p) => [p, draw(p)])),
      }
      const frozen = method.replaces?.(options) === true ? method.remainder!(W, 0, initial.params, options) : W
      w.values.set(frozen, m.from * K)
      members.push({ site, rows: m.rows, frozen, start: initial.params })
      for (const [p, { shape }] of Object.entries(specs)) shapes[p] = [(shapes[p]?.[0] ?? 0) + shape[0], ...shape.slice(1)]
    }
    const layer = new AdaptedLayer(method, options, members, shapes, rows, kind === 'single')
    // A replaced weight is kept as f32, as the model store keeps it.
    const replaced = method.replaces?.(options) === true
    const weight = replaced ? { format: 'f32' as const, data: w.values, scales: null } : { format, data: w.data, scales: w.scales }
    await layer.#compile(weight, own, from)
    return layer
  }

  async #compile(
    w: { format: WeightFormat; data: F32 | Uint32Array<ArrayBuffer>; scales: F32 | Uint32Array<ArrayBuffer> | null },
    own: readonly { name: string; from: number; rows: number }[],
    from: number,
  ): Promise<void> {
    const { method, options, rows } = this
    const g = new Graph(target)
    const leaf = (name: string, shape: Shape, data: F32 | Uint32Array<ArrayBuffer>, grad = false): Tensor => {
      const make = (label: string, values: F32 | Uint32Array<ArrayBuffer>): Storage => {
        const s = new Storage(label, values.byteLength, 'weights').allocate(gpu)
        s.write(values)
        this.#storages.set(label, s)
        return s
      }
      const sink = grad ? g.leaf(make(`${name} gradient`, new Float32Array(data.length)), shape) : null
      return g.leaf(make(name, data), shape, { dtype: data instanceof Uint32Array ? 'u32' : 'f32', needsGrad: grad, sink })
    }
    const weight: Weight = {
      format: w.format,
      rows: ROWS,
      cols: K,
      data: leaf('weight', w.format === 'f32' ? [ROWS, K] : [w.data.length], w.data),
      scales: w.scales && leaf('scales', [w.scales.length], w.scales),
    }
    const [bias, residual] = [leaf('bias', [rows], this.#bias), this.#residual && leaf('residual', [M, rows], this.#residual)]
    const range = { from, rows }
    const site: LinearSite = {
      name: 'group',
      members: own.map((m) => m.name),
      inFeatures: K,
      outFeatures: rows,
      weight,
      range,
      segments: own.slice(1).map((m) => m.from - from),
      bias,
      residual,
      base: (v, o = {}) => linear(v, weight, { bias, residual: o.residual === false ? null : residual, range }),
    }
    const x = leaf('x', [M, K], this.x, true)
    const p = Object.fromEntries(Object.entries(this.shapes).map(([name, shape]) => [name, leaf(name, shape, this.start()[name], true)]))
    const y = method.forward(x, site, p, options, { training: false, seed: new ScalarInput(1), stream: 0 })
    backward(y, leaf('G', [M, rows], this.G))
    Object.assign(this.#tensors, { y, ...Object.fromEntries(['x', ...Object.keys(p)].map((n) => [n, (p[n] ?? x).sink!])) })
    this.#session = await Session.create(gpu, new SessionPlan([{ name: 'layer', graph: g, keep: [y] }]))
  }

  /** Parameters of all members together, as initialised. */
  start(): Record<string, F32> {
    return Object.fromEntries(
      Object.entries(this.shapes).map(([name, shape]) => {
        const all = new Float32Array(numel(shape))
        let at = 0
        for (const m of this.members) {
          all.set(m.start[name], at)
          at += m.start[name].length
        }
        return [name, all]
      }),
    )
  }

  /** y [M, rows] on the GPU. */
  async forward(values: Readonly<Record<string, F32>>): Promise<F32> {
    for (const [name, v] of Object.entries(values)) this.#storages.get(name)!.write(v)
    const program = this.#session!.programs[0]
    program.run()
    return program.read(this.#tensors.y)
  }
  /** Gradients of sum(y G) on the GPU, by parameter, and of x. */
  async gradients(values: Readonly<Record<string, F32>>): Promise<Record<string, F32>> {
    const names = [...Object.keys(this.shapes), 'x']
    for (const n of names) {
      const s = this.#storages.get(`${n} gradient`)!
      s.write(new Float32Array(s.bytes / 4))
    }
    await this.forward(values)
    const out: Record<string, F32> = {}
    for (const n of names) out[n] = await this.#session!.programs[0].read(this.#tensors[n])
    return out
  }

  /** Weight and bias of all members with a method (by default its own) written into them. */
  merged(values: Readonly<Record<string, F32>>, method: AnyLinearMethod = this.method): { weight: F32; bias: F32 } {
    const weight = new Float32Array(this.rows * K)
    const bias = new Float32Array(this.rows)
    const at = Object.fromEntries(Object.keys(this.shapes).map((n) => [n, 0]))
    let row = 0
    for (const m of this.members) {
      const p = Object.fromEntries(
        Object.keys(this.shapes).map((n) => {
          const size = m.start[n].length
          at[n] += size
          return [n, values[n].slice(at[n] - size, at[n])]
        }),
      )
      weight.set(method.merge(m.site, m.frozen.slice(), p, this.options), row * K)
      const own = this.#bias.slice(row, row + m.rows)
      bias.set(method.mergeBias?.(m.site, own.slice(), p, this.options) ?? own, row)
      row += m.rows
    }
    return { weight, bias }
  }
  /** What is added to output i after the weight: bias and residual. */
  added(i: number): number {
    return this.#bias[i % this.rows] + (this.#residual?.[i] ?? 0)
  }
  /** x W^T + b (+ residual) in double precision. */
  reference({ weight, bias }: { weight: ArrayLike<number>; bias: ArrayLike<number> }): Float64Array {
    const y = Float64Array.from({ length: M * this.rows }, (_, i) => bias[i % this.rows] + (this.#residual?.[i] ?? 0))
    for (let m = 0; m < M; m++)
      for (let n = 0; n < this.rows; n++) for (let k = 0; k < K; k++) y[m * this.rows + n] += this.x[m * K + k] * weight[n * K + k]
    return y
  }
  /** The layer as it was before the method came. */
  async original(): Promise<{ weight: F32; bias: F32 }> {
    const weight = new Float32Array(this.rows * K)
    let at = 0
    for (const m of this.members) {
      weight.set(await m.site.weight(), at)
      at += m.rows * K
    }
    return { weight, bias: this.#bias }
  }
  destroy(): void {
    this.#session?.destroy()
    for (const s of this.#storages.values()) s.destroy()
  }
}
