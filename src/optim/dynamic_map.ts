/** @file The 256 values of dynamic quantisation (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861, section 2.2; bitsandbytes' create_dynamic_map). */

const CODES = 256
/** Decades that the values reach down: the first has 1 value (unsigned: 2), each next one twice as many. */
const DECADES = 7

/** Sorted values in [-1, 1], or [0, 1]: within a decade the midpoints of equal parts of [0.1, 1]; and 0 and 1. */
export function dynamicMap(signed: boolean): Float32Array<ArrayBuffer> {
  const f = Math.fround
  const values = [0, 1]
  for (let i = 0; i < DECADES; i++) {
    const parts = signed ? 2 ** i : 2 ** (i + 1)
    const edge = (j: number): number => f(0.1 + (0.9 * j) / parts)
    for (let j = 0; j < parts; j++) {
      const value = f(10 ** (i + 1 - DECADES) * f((edge(j) + edge(j + 1)) / 2))
      values.push(value)
      if (signed) values.push(-value)
    }
  }
  return Float32Array.from(values).sort()
}

/** What the kernel reads, f32 [4, 256]: the values of both maps, signed first, then the bounds between neighbours (the last one is unreachable). */
export function dynamicTables(): Float32Array<ArrayBuffer> {
  const maps = [dynamicMap(true), dynamicMap(false)]
  const out = new Float32Array(4 * CODES)
  maps.forEach((map, i) => {
    out.set(map, i * CODES)
    for (let c = 0; c < CODES; c++) out[(2 + i) * CODES + c] = c + 1 < CODES ? (map[c] + map[c + 1]) / 2 : Infinity
  })
  return out
}
export const DYNAMIC_TABLE_BYTES = 4 * CODES * 4
