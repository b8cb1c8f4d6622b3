/** @file A matrix as matmul, gather and norm kernels read it: f32 (frozen or trained), or a frozen packing (layouts in shaders/lib/weight.wesl). */
import type { Tensor } from './graph.ts'

export const WEIGHT_FORMATS = ['f32', 'f16', 'q4', 'q8'] as const
export type WeightFormat = (typeof WEIGHT_FORMATS)[number]
export const WEIGHT_FLAGS = { f32: 'w_f32', f16: 'w_f16', q4: 'w_q4', q8: 'w_q8' } as const

export interface Weight {
  readonly format: WeightFormat
  /** [rows, cols] = [out_features, in_features], or [vocab, hidden]. */
  readonly rows: number
  readonly cols: number
  /** f32: [rows, cols], possibly trainable. Packed: u32 words. */
  readonly data: Tensor
  /** q4, q8: a scale per block of 32 along cols; null elsewhere. */
  readonly scales: Tensor | null
}

/** Bytes of packed data and scales. */
export function weightBytes(format: WeightFormat, rows: number, cols: number): { data: number; scales: number } {
  const n = rows * cols
  switch (format) {
    case 'f32':
      return { data: n * 4, scales: 0 }
    case 'f16':
      return { data: n * 2, scales: 0 }
    case 'q4':
      return { data: n / 2, scales: n / 8 }
    case 'q8':
      return { data: n, scales: n / 8 }
  }
}
