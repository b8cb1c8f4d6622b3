/** @file Where a model's parameters lie on the GPU. Filled by train/fill_store.ts; read by Network. */
import { type Graph, type Tensor } from '../tensor/graph.ts'
import type { Storage } from '../tensor/storage.ts'
import type { WeightFormat } from '../kernels/weight_formats.ts'
import type { Weight } from '../tensor/weight.ts'

/** A part of a persistent buffer: `byteOffset` is a multiple of 256. */
export interface Place {
  readonly storage: Storage
  readonly byteOffset: number
}
/** One module of a (possibly fused) weight: its rows. */
export interface Member {
  /** Module path as Hugging Face names it: model.layers.0.self_attn.q_proj. */
  readonly name: string
  readonly from: number
  readonly rows: number
}
/** Rows first … first + rows - 1 of a table, in buffers of their own. */
export interface MatrixPart {
  readonly first: number
  readonly rows: number
  readonly data: Place
  readonly scales: Place | null
}
export interface MatrixStore {
  readonly format: WeightFormat
  readonly rows: number
  readonly cols: number
  readonly data: Place
  readonly scales: Place | null
  readonly members: readonly Member[]
  /** Frozen or trained bias [rows], or null. */
  readonly bias: VectorStore | null
  /** Where its gradient collects, if it is trained (f32 only). */
  readonly gradient: Place | null
  /** All of a frozen table that is too large for one buffer; null: `data` and `scales` are all. */
  readonly parts: readonly MatrixPart[] | null
}
export interface VectorStore {
  readonly size: number
  readonly data: Place
  readonly gradient: Place | null
}
export interface ModelStore {
  /** Linear layers by group. Usually one matrix a group; several where its members are stored in different formats. */
  readonly groups: ReadonlyMap<string, readonly MatrixStore[]>
  /** Norm weights and the like, by tensor name. */
  readonly vectors: ReadonlyMap<string, VectorStore>
  readonly embedding: MatrixStore
  /** Null: the head is the embedding. */
  readonly head: MatrixStore | null
  /** A vector for each position; null: positions are rotations. */
  readonly positions: MatrixStore | null
}

export function bindVector(g: Graph, v: VectorStore): Tensor {
  const sink = v.gradient && g.leaf(v.gradient.storage, [v.size], { byteOffset: v.gradient.byteOffset })
  return g.leaf(v.data.storage, [v.size], { byteOffset: v.data.byteOffset, needsGrad: sink !== null, sink })
}

export function bindMatrix(g: Graph, m: MatrixStore): Weight {
  const { format, rows, cols } = m
  const sink = m.gradient && g.leaf(m.gradient.storage, [rows, cols], { byteOffset: m.gradient.byteOffset })
  const words = ({ storage, byteOffset }: Place): Tensor => g.leaf(storage, [storage.bytes / 4], { dtype: 'u32', byteOffset })
  const bind = (p: Omit<MatrixPart, 'first'>) => ({
    data:
      format === 'f32'
        ? g.leaf(p.data.storage, [p.rows, cols], { byteOffset: p.data.byteOffset, needsGrad: sink !== null, sink })
        : words(p.data),
    scales: p.scales && words(p.scales),
  })
  if (!m.parts) return { format, rows, cols, ...bind(m) }
  const parts = m.parts.map((p) => ({ first: p.first, rows: p.rows, ...bind(p) }))
  return { format, rows, cols, data: parts[0].data, scales: parts[0].scales, parts }
}
