/** @file A matrix as matmul, gather and norm kernels read it: f32 (frozen or trained), or a frozen packing (formats: src/kernels/weight_formats.ts). */
import type { WeightFormat } from '../kernels/weight_formats.ts'
import type { Tensor } from './graph.ts'

/** Rows first … first + rows - 1 of a table, in buffers of their own. */
export interface WeightPart {
  readonly first: number
  readonly rows: number
  readonly data: Tensor
  readonly scales: Tensor | null
}
export interface Weight {
  readonly format: WeightFormat
  /** [rows, cols] = [out_features, in_features], or [vocab, hidden]. */
  readonly rows: number
  readonly cols: number
  /** f32: [rows, cols], possibly trainable. Packed: u32 words. Of a table in parts: the first one's. */
  readonly data: Tensor
  /** Packed formats with blocks: scales as u32 words; null elsewhere. */
  readonly scales: Tensor | null
  /** A table that lies in several buffers. Only `tableChunks` reads such a weight. */
  readonly parts?: readonly WeightPart[]
}
