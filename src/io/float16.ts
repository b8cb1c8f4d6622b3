/** @file 16-bit floats (IEEE 754 binary16 and bfloat16) to and from float32, rounding to nearest, ties to even. */

const word = new Uint32Array(1)
const real = new Float32Array(word.buffer)
let table: Float32Array | null = null

function decodeF16(h: number): number {
  const sign = h & 0x8000 ? -1 : 1
  const exponent = (h >>> 10) & 31
  const mantissa = h & 1023
  if (exponent === 31) return mantissa ? NaN : sign * Infinity
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25)
}

/** float32 of every binary16 bit pattern; 65536 entries, made on first use. */
export function f16Table(): Float32Array {
  table ??= Float32Array.from({ length: 65536 }, (_, h) => decodeF16(h))
  return table
}

/** binary16 bits of the float32 whose bits are given. */
export function f16FromBits(x: number): number {
  const sign = (x >>> 16) & 0x8000
  const abs = x & 0x7fffffff
  if (abs > 0x7f800000) return sign | 0x7e00
  if (abs >= 0x477ff000) return sign | 0x7c00
  if (abs >= 0x38800000) return sign | ((abs + 0xfff + ((abs >>> 13) & 1) - 0x38000000) >>> 13)
  if (abs <= 0x33000000) return sign
  const shift = 126 - (abs >>> 23)
  const mantissa = (abs & 0x7fffff) | 0x800000
  const rest = mantissa & ((1 << shift) - 1)
  const half = 1 << (shift - 1)
  const q = mantissa >>> shift
  return sign | (rest > half || (rest === half && (q & 1) === 1) ? q + 1 : q)
}

/** binary16 bits of a number. */
export function toF16(value: number): number {
  real[0] = value
  return f16FromBits(word[0] ?? 0)
}

/** bfloat16 bits of the float32 whose bits are given. */
export function bf16FromBits(x: number): number {
  if ((x & 0x7fffffff) > 0x7f800000) return ((x >>> 16) & 0x8000) | 0x7fc0
  return ((x + 0x7fff + ((x >>> 16) & 1)) >>> 16) & 0xffff
}
