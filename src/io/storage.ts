/** @file How many bytes a stored tensor takes: block sizes of every storage type. Source of the block sizes: ggml/src/ggml-common.h. */
import type { StorageType } from './source.ts'

/** [elements in a block, bytes of a block]. */
export const BLOCKS: Readonly<Record<StorageType, readonly [elements: number, bytes: number]>> = {
  F64: [1, 8],
  F32: [1, 4],
  F16: [1, 2],
  BF16: [1, 2],
  I64: [1, 8],
  I32: [1, 4],
  I16: [1, 2],
  I8: [1, 1],
  U8: [1, 1],
  BOOL: [1, 1],
  Q4_0: [32, 18],
  Q4_1: [32, 20],
  Q5_0: [32, 22],
  Q5_1: [32, 24],
  Q8_0: [32, 34],
  Q2_K: [256, 84],
  Q3_K: [256, 110],
  Q4_K: [256, 144],
  Q5_K: [256, 176],
  Q6_K: [256, 210],
}

/** Bytes of `count` elements, which must be whole blocks; NaN where they are not. */
export function storedBytes(type: StorageType, count: number): number {
  const [elements, bytes] = BLOCKS[type]
  return count % elements === 0 ? (count / elements) * bytes : NaN
}

/** Elements of a shape, or NaN where a dimension is not a non-negative integer or the product passes 2^53. */
export function elementCount(shape: readonly number[]): number {
  let n = 1
  for (const d of shape) {
    if (!Number.isSafeInteger(d) || d < 0) return NaN
    n *= d
    if (!Number.isSafeInteger(n)) return NaN
  }
  return n
}

/** Kinds of storage in use, most bytes first: "Q4_1 + Q8_0 + F32". */
export function storageSummary(tensors: Iterable<{ readonly type: StorageType; readonly bytes: number }>): string {
  const bytes = new Map<StorageType, number>()
  for (const t of tensors) bytes.set(t.type, (bytes.get(t.type) ?? 0) + t.bytes)
  return [...bytes]
    .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
    .map(([type]) => type)
    .join(' + ')
}
