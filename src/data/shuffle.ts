/** @file Seeded orders. Counter-based: an order is a function of (length, seed, stream), so nothing but those is stored. */

/** 32 bits of (seed, stream, counter): murmur3's finaliser over a Weyl sequence. Enough for shuffling; not for cryptography. */
export function hash32(seed: number, stream: number, counter: number): number {
  let h = mix(seed ^ 0x9e3779b9)
  h = mix(h ^ Math.imul(stream + 1, 0x85ebca6b))
  return mix(h ^ Math.imul(counter + 1, 0xc2b2ae35))
}

function mix(x: number): number {
  let h = x >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A permutation of 0 … n-1 (Fisher and Yates). `stream` tells orders of one seed apart: the epoch, the split. */
export function permutation(n: number, seed: number, stream: number): Uint32Array<ArrayBuffer> {
  const p = Uint32Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor((hash32(seed, stream, i) / 2 ** 32) * (i + 1))
    const t = p[i] ?? 0
    p[i] = p[j] ?? 0
    p[j] = t
  }
  return p
}
