/** @file What a model family's forward pass is written with: layers over bound parameters, and the places where a method may act. */
import { checkpoint } from '../autograd/backward.ts'
import { ropeAttention } from '../autograd/ops/attention.ts'
import { cachedAttention, appendKv } from '../autograd/ops/cached_attention.ts'
import { addBias, concatColumns, sliceColumns } from '../autograd/ops/columns.ts'
import { embed, embedWithPrompt } from '../autograd/ops/embedding.ts'
import { linear, type RowRange } from '../autograd/ops/linear.ts'
import { rmsNorm } from '../autograd/ops/norm.ts'
import { add } from '../autograd/ops/pointwise.ts'
import { rope } from '../autograd/ops/rope.ts'
import { type Dim, type Graph, type Scalar, ShapeError, type Tensor } from '../tensor/graph.ts'
import type { Storage } from '../tensor/storage.ts'
import type { Weight } from '../tensor/weight.ts'
import { bindMatrix, bindVector, type Member, type ModelStore } from './store.ts'

/** Attention over this step's rows, or over a cache that generation extends. */
export type AttentionMode =
  | { readonly kind: 'rows' }
  | {
      readonly kind: 'cache'
      readonly position: Scalar
      readonly layers: readonly { readonly k: Storage; readonly v: Storage }[]
      readonly capacity: number
    }

export interface NetworkInputs {
  /** u32 [B T]. */
  readonly ids: Tensor
  /** u32 [rows], of the text after a prompt's rows are put in. */
  readonly positions: Tensor
  /** u32 [rows]: first key each row may see, within its sequence. Not read with a cache. */
  readonly starts: Tensor
  /** Sequences; tokens of each, a prompt's included. */
  readonly batch: Dim
  readonly tokens: Dim
  /** Trained vectors before each sequence, [P, C]; `textTokens` is then tokens - P. */
  readonly prompt: Tensor | null
  readonly textTokens: Dim
  readonly maxBatch: number
}

/** Linear layers that share an input, as a method sees them. */
export interface LinearGroup {
  readonly name: string
  readonly members: readonly Member[]
  readonly weight: Weight
  /** Frozen bias of `rows` rows, or null: the layer has none. */
  bias(from: number, rows: number): Tensor | null
  readonly residual: Tensor | null
  base(x: Tensor, range: RowRange, o: { residual: boolean }): Tensor
}
/** The adapted output of a group, or null where the method does not act on it. */
export type LinearHook = (x: Tensor, group: LinearGroup) => Tensor | null

export interface Shape {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly normEps: number
}
export interface NetworkOptions {
  readonly graph: Graph
  readonly store: ModelStore
  readonly shape: Shape
  readonly inputs: NetworkInputs
  readonly rope: { readonly invFreq: Storage; readonly attentionFactor: number; readonly pairs: number }
  readonly hook: LinearHook | null
  readonly attention: AttentionMode
  /** Keep only each block's input and compute the rest again in the backward pass. */
  readonly checkpointing: boolean
}

export class Network {
  readonly graph: Graph
  readonly #invFreq: Tensor
  readonly #vectors = new Map<string, Tensor>()
  readonly #matrices = new Map<string, Weight>()
  constructor(readonly o: NetworkOptions) {
    this.graph = o.graph
    this.#invFreq = o.graph.leaf(o.rope.invFreq, [o.rope.pairs])
  }

  /** Token embeddings, [rows, C], after the prompt if there is one. */
  embed(o: { scale?: number } = {}): Tensor {
    const { ids, prompt, batch, textTokens, maxBatch } = this.o.inputs
    if (prompt) return embedWithPrompt(this.embedding, ids, prompt, { batch, tokens: textTokens, maxBatch })
    return embed(this.embedding, ids, ids.rows, o)
  }
  get embedding(): Weight {
    return this.#matrix('embedding', () => bindMatrix(this.graph, this.o.store.embedding))
  }
  /** The output projection [V, C]: the embedding itself when tied. */
  get head(): Weight {
    const { head } = this.o.store
    return head ? this.#matrix('head', () => bindMatrix(this.graph, head)) : this.embedding
  }

  rmsNorm(x: Tensor, name: string): Tensor {
    return rmsNorm(x, this.#vector(name), this.o.shape.normEps)
  }

  /** The linear layers of a group over a shared input, side by side: [M, sum of outputs], plus `residual`. */
  linear(x: Tensor, group: string, residual: Tensor | null = null): Tensor {
    const stores = this.o.store.groups.get(group)
    if (!stores) throw new ShapeError('network', `a group named ${group}`, x.shape)
    const parts = stores.map((store, i) => {
      const weight = this.#matrix(`${group}#${i}`, () => bindMatrix(this.graph, store))
      const bias = store.bias && this.#cached(`${group}#${i}.bias`, () => bindVector(this.graph, store.bias!))
      const partOf = (from: number, rows: number): Tensor | null =>
        bias &&
        (rows === weight.rows
          ? bias
          : sliceColumns(
              this.graph.leaf(store.bias.data.storage, [1, weight.rows], { byteOffset: store.bias.data.byteOffset }),
              from,
              rows,
            ))
      const own = stores.length === 1 ? residual : null
      const site: LinearGroup = {
        name: group,
        members: store.members,
        weight,
        bias: partOf,
        residual: own,
        base: (v, range, o) => baseLinear(v, weight, partOf(range.from, range.rows), o.residual ? own : null, range),
      }
      return this.o.hook?.(x, site) ?? site.base(x, { from: 0, rows: weight.rows }, { residual: true })
    })
    if (parts.length === 1) return parts[0]
    const y = concatColumns(parts)
    return residual ? add(y, residual) : y
  }

  /** Rotary embedding and causal grouped-query attention over [q | k | v]. */
  attention(qkv: Tensor, layer: number): Tensor {
    const { heads, kvHeads, headDim } = this.o.shape
    const { positions, starts, batch, tokens } = this.o.inputs
    const rotation = { positions, invFreq: this.#invFreq, mscale: this.o.rope.attentionFactor }
    const scale = 1 / Math.sqrt(headDim)
    const mode = this.o.attention
    if (mode.kind === 'rows') return ropeAttention(qkv, { heads, kvHeads, headDim, scale, starts, batch, tokens, rope: rotation })
    const turned = rope(qkv, { ...rotation, heads: heads + kvHeads, headDim })
    const cache = mode.layers[layer]
    const [k, v] = [cache.k, cache.v].map((s) => this.graph.leaf(s, [mode.capacity, kvHeads * headDim]))
    const o = { heads, kvHeads, headDim, position: mode.position, tokens }
    appendKv(turned, k, v, o)
    return cachedAttention(turned, k, v, { ...o, scale })
  }

  /** One block of the model; recomputed in the backward pass when asked for. */
  block(x: Tensor, fn: (x: Tensor) => Tensor): Tensor {
    return this.o.checkpointing ? checkpoint(fn, x) : fn(x)
  }

  #vector(name: string): Tensor {
    const v = this.o.store.vectors.get(name)
    if (!v) throw new ShapeError('network', `a vector named ${name}`)
    return this.#cached(name, () => bindVector(this.graph, v))
  }
  #cached(name: string, make: () => Tensor): Tensor {
    let t = this.#vectors.get(name)
    if (!t) this.#vectors.set(name, (t = make()))
    return t
  }
  #matrix(name: string, make: () => Weight): Weight {
    let w = this.#matrices.get(name)
    if (!w) this.#matrices.set(name, (w = make()))
    return w
  }
}

/** A frozen bias is added in the matmul, a trained one by an op of its own. */
function baseLinear(x: Tensor, w: Weight, bias: Tensor | null, residual: Tensor | null, range: RowRange): Tensor {
  if (bias?.needsGrad) {
    const y = addBias(linear(x, w, { range }), bias)
    return residual ? add(y, residual) : y
  }
  return linear(x, w, { residual, bias, range })
}
