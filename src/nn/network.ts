/** @file What a model family's forward pass is written with: layers over bound parameters, and the places where a method may act. */
import { checkpoint } from '../autograd/backward.ts'
import { attention, ropeAttention } from '../autograd/ops/attention.ts'
import { cachedAttention, appendKv } from '../autograd/ops/cached_attention.ts'
import { addBias, concatColumns, sliceColumns } from '../autograd/ops/columns.ts'
import { embed, embedWithPrompt } from '../autograd/ops/embedding.ts'
import { headNorm } from '../autograd/ops/head_norm.ts'
import { linear, type RowRange } from '../autograd/ops/linear.ts'
import { layerNorm, rmsNorm } from '../autograd/ops/norm.ts'
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
  /** The id whose embedding learns nothing from being read: Transformers hands pad_token_id to the embedding as its padding_idx. */
  readonly paddingId?: number | null
  /** Norms scale by 1 + weight, as Gemma stores them. */
  readonly onePlusNorms?: boolean
}
/** How a layer's attention differs from 1 / sqrt(headDim) over all earlier keys with the first rotary table. */
export interface AttentionSpec {
  /** Which of the rotary tables turns queries and keys; null: none does. */
  readonly rope?: number | null
  /** Factor on q.k. */
  readonly scale?: number
  /** Keys that a query sees, its own included; 0: all before it. */
  readonly window?: number
  /** Scores are c tanh(s / c) with this c; 0: as they are. */
  readonly softcap?: number
}
export interface NetworkOptions {
  readonly graph: Graph
  readonly store: ModelStore
  readonly shape: Shape
  readonly inputs: NetworkInputs
  /** Rotary frequencies of all tables, and where each lies. */
  readonly rope: {
    readonly invFreq: Storage
    readonly tables: readonly { readonly byteOffset: number; readonly pairs: number; readonly attentionFactor: number }[]
  }
  readonly hook: LinearHook | null
  readonly attention: AttentionMode
  /** Keep only the input of every so many blocks, and compute the rest again in the backward pass; null: keep all. */
  readonly checkpointEvery: number | null
}

export class Network {
  readonly graph: Graph
  readonly #invFreq: readonly Tensor[]
  readonly #vectors = new Map<string, Tensor>()
  readonly #matrices = new Map<string, Weight>()
  constructor(readonly o: NetworkOptions) {
    this.graph = o.graph
    this.#invFreq = o.rope.tables.map(({ pairs, byteOffset }) => o.graph.leaf(o.rope.invFreq, [pairs], { byteOffset }))
  }

  /** Token embeddings times `scale`, [rows, C], after the prompt if there is one (as it is). */
  embed(o: { scale?: number } = {}): Tensor {
    const { ids, prompt, batch, textTokens, maxBatch } = this.o.inputs
    if (prompt) return embedWithPrompt(this.embedding, ids, prompt, { batch, tokens: textTokens, maxBatch, ...o })
    return embed(this.embedding, ids, ids.rows, { ...o, skip: this.o.shape.paddingId ?? null })
  }
  /** The learned vector of each row's position, [rows, C]. The table's first `offset` rows belong to no position. */
  positions(o: { offset?: number } = {}): Tensor {
    const table = this.o.store.positions
    if (!table) throw new ShapeError('network', 'a table of positions')
    const { positions } = this.o.inputs
    return embed(this.#matrix('positions', () => bindMatrix(this.graph, table)), positions, positions.rows, o) // prettier-ignore
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
    const { normEps, onePlusNorms = false } = this.o.shape
    return rmsNorm(x, this.#vector(name), normEps, { onePlusWeight: onePlusNorms })
  }

  /** LayerNorm by a module's weight and bias. */
  layerNorm(x: Tensor, module: string): Tensor {
    return layerNorm(x, this.#vector(`${module}.weight`), this.#vector(`${module}.bias`), this.o.shape.normEps)
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

  /** Norms of the heads of queries and keys in [q | k | v], by the weights of an attention module's q_norm and k_norm. */
  headNorms(qkv: Tensor, module: string): Tensor {
    const { heads, kvHeads, headDim, normEps, onePlusNorms = false } = this.o.shape
    const [qWeight, kWeight] = [this.#vector(`${module}.q_norm.weight`), this.#vector(`${module}.k_norm.weight`)]
    return headNorm(qkv, { heads, kvHeads, headDim, qWeight, kWeight, eps: normEps, onePlusWeight: onePlusNorms })
  }

  /** Rotary embedding and causal grouped-query attention over [q | k | v]. */
  attention(qkv: Tensor, layer: number, spec: AttentionSpec = {}): Tensor {
    const { heads, kvHeads, headDim } = this.o.shape
    const { positions, starts, batch, tokens } = this.o.inputs
    const table = spec.rope === undefined ? 0 : spec.rope
    const rotation = table === null ? null : { positions, invFreq: this.#invFreq[table], mscale: this.o.rope.tables[table].attentionFactor }
    const { scale = 1 / Math.sqrt(headDim), window = 0, softcap = 0 } = spec
    const limits = { ...(window > 0 && { window }), ...(softcap > 0 && { softcap }) }
    const mode = this.o.attention
    if (mode.kind === 'rows') {
      const o = { heads, kvHeads, headDim, scale, starts, batch, tokens, ...limits }
      return rotation ? ropeAttention(qkv, { ...o, rope: rotation }) : attention(qkv, o)
    }
    const turned = rotation ? rope(qkv, { ...rotation, heads: heads + kvHeads, headDim }) : qkv
    const cache = mode.layers[layer]
    const [k, v] = [cache.k, cache.v].map((s) => this.graph.leaf(s, [mode.capacity, kvHeads * headDim]))
    const o = { heads, kvHeads, headDim, position: mode.position, tokens }
    appendKv(turned, k, v, o)
    return cachedAttention(turned, k, v, { ...o, scale, ...limits })
  }

  /** `count` blocks, one after another; recomputed in the backward pass when asked for. */
  blocks(x: Tensor, count: number, fn: (x: Tensor, i: number) => Tensor): Tensor {
    const run = (v: Tensor, from: number, to: number): Tensor => {
      for (let i = from; i < to; i++) v = fn(v, i)
      return v
    }
    const { checkpointEvery: every } = this.o
    if (every === null) return run(x, 0, count)
    for (let i = 0; i < count; i += every) x = checkpoint((v) => run(v, i, Math.min(count, i + every)), x)
    return x
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
