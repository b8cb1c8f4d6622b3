/** @file Lists of token ids as they come in files: JSON arrays, 64-bit integers of Parquet, or text in a CSV cell. */

const LIMIT = 2 ** 31

/** Whole numbers of a list, or null where it is none. A cell "[1, 2, 3]" or "1 2 3" is a list too. */
export function readIds(v: unknown): number[] | null {
  if (typeof v === 'string') {
    const inner = /^\s*\[?([\d\s,-]*)\]?\s*$/.exec(v)?.[1]?.trim()
    if (!inner) return null
    return readIds(
      inner
        .split(/[\s,]+/)
        .filter(Boolean)
        .map(Number),
    )
  }
  if (ArrayBuffer.isView(v) && !(v instanceof DataView)) return readIds(Array.from(v as unknown as Iterable<unknown>))
  if (!Array.isArray(v)) return null
  const ids: number[] = []
  for (const x of v as unknown[]) {
    const n = typeof x === 'bigint' ? Number(x) : x
    if (typeof n !== 'number' || !Number.isInteger(n) || n >= LIMIT || n < -LIMIT) return null
    ids.push(n)
  }
  return ids
}
