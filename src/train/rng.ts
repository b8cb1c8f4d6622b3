/** @file Random numbers of initialisation: a stream for each name, so that a parameter's start depends on the seed and on nothing else. */
import type { Init } from '../peft/method.ts'

/** Uniform in [0, 1), 53 bits: sfc32 (Doty-Humphrey, PractRand), seeded by an FNV-1a hash of the name. */
export function uniformStream(seed: number, name: string): () => number {
  let h = 0x811c9dc5
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193)
  let [a, b, c, counter] = [seed | 0, h, 0x9e3779b9 ^ h, 1]
  const next = (): number => {
    const t = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + t
    c |= 0
    return t >>> 0
  }
  for (let i = 0; i < 15; i++) next()
  return () => (next() * 2097152 + (next() >>> 11)) / 2 ** 53
}

/** Values of an initialisation. */
export function drawInit(init: Init, count: number, uniform: () => number): Float32Array<ArrayBuffer> {
  if (init === 'zeros') return new Float32Array(count)
  if (init === 'ones') return new Float32Array(count).fill(1)
  if ('uniform' in init) return Float32Array.from({ length: count }, () => (2 * uniform() - 1) * init.uniform)
  return Float32Array.from(
    { length: count },
    () => init.normal * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}
