/** @file Choosing the next token from logits. */
import { uniformStream } from './rng.ts'

export interface SamplingOptions {
  /** 0 is greedy. */
  readonly temperature: number
  /** Keep the k likeliest; 0 is off. */
  readonly topK: number
  /** Keep the likeliest whose probabilities add up to p (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751); 1 is off. */
  readonly topP: number
  readonly seed: number
}

/** Index of the largest logit; the first of equals. */
export function argmax(logits: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i
  return best
}

/** A chooser with its own random stream: the same seed and logits choose the same tokens. */
export function sampler(o: SamplingOptions): (logits: Float32Array) => number {
  const uniform = uniformStream(o.seed, 'sampling')
  return (logits) => {
    if (o.temperature <= 0) return argmax(logits)
    const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b)
    const kept = o.topK > 0 ? order.slice(0, o.topK) : order
    const max = logits[kept[0]]
    const weights = kept.map((i) => Math.exp((logits[i] - max) / o.temperature))
    const total = weights.reduce((a, b) => a + b, 0)
    let mass = 0
    let n = 0
    while (n < weights.length && (n === 0 || mass < o.topP * total)) mass += weights[n++]
    let u = uniform() * mass
    for (let i = 0; i < n; i++) {
      u -= weights[i]
      if (u < 0) return kept[i]
    }
    return kept[n - 1]
  }
}
