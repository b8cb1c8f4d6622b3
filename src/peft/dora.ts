/** @file DoRA: the weight is split into length and direction; LoRA turns the direction, a vector scales the length (Liu et al. 2024). */
import { mulColumns } from '../autograd/ops/columns.ts'
import { inverseRowNorm } from '../autograd/ops/linear.ts'
import { add, mul } from '../autograd/ops/pointwise.ts'
import { defineLinear } from './method.ts'
import {
  addUpdate,
  LORA_OPTIONS,
  loraConfig,
  loraForward,
  loraFromConfig,
  loraInitialise,
  loraParams,
  loraRemainder,
  loraReplaces,
  loraScale,
  loraTargets,
  standaloneFactors,
} from './lora.ts'

type Param = 'lora_A' | 'lora_B' | 'lora_magnitude_vector'

/** Weights read at once, about. */
const SLICE = 2 ** 20

/** ‖row‖ of a matrix [out, in]. */
function rowNorms(W: Float32Array, outFeatures: number): Float32Array<ArrayBuffer> {
  const inFeatures = W.length / outFeatures
  return Float32Array.from({ length: outFeatures }, (_, n) => {
    let s = 0
    for (let k = 0; k < inFeatures; k++) s += W[n * inFeatures + k] ** 2
    return Math.sqrt(s)
  })
}

/** y = m / ‖W + s B A‖ ∘ (W + s B A) x, the norm over each row and held constant in the gradient (https://arxiv.org/abs/2402.09353, equations 5 and 11). */
export const dora = defineLinear<typeof LORA_OPTIONS, Param>({
  id: 'dora',
  title: 'DoRA',
  summary: 'LoRA for the direction of each weight row, and one trained length a row.',
  paper: { cite: 'Liu et al. 2024', url: 'https://arxiv.org/abs/2402.09353' },
  slot: 'linear',
  peftType: 'LORA',
  fused: true,
  merges: true,
  options: LORA_OPTIONS,
  runDefaults: { lr: 1e-3 },
  rateByWidth: true,
  targets: loraTargets,
  params: (site, o) => ({ ...loraParams(site, o), lora_magnitude_vector: { shape: [site.outFeatures], init: 'ones' } }),
  key: (p) => (p === 'lora_magnitude_vector' ? p : `${p}.weight`),
  initialise: async (site, o, draw) => {
    const start = (await loraInitialise(site, o, (p) => draw(p))).params as Record<'lora_A' | 'lora_B', Float32Array<ArrayBuffer>>
    const lora_magnitude_vector = new Float32Array(site.outFeatures)
    // At the start W + s B A is the weight: B is 0, or B A is what PiSSA or OLoRA took out of it.
    const step = Math.max(1, Math.floor(SLICE / site.inFeatures))
    for (let first = 0; first < site.outFeatures; first += step) {
      const rows = Math.min(step, site.outFeatures - first)
      lora_magnitude_vector.set(rowNorms(await site.weight(first, rows), rows), first)
    }
    return { params: { ...start, lora_magnitude_vector } }
  },
  forward: (x, site, p, o, ctx) => {
    const z = loraForward(x, site, p, o, ctx, null, null)
    const norm = inverseRowNorm(site.weight, p.lora_A, p.lora_B, { scale: loraScale(o), segments: site.segments, range: site.range })
    const y = mulColumns(z, mul(p.lora_magnitude_vector, norm))
    const biased = site.bias ? add(y, site.bias) : y
    return site.residual ? add(biased, site.residual) : biased
  },
  merge: (site, W, p, o) => {
    const turned = addUpdate(W, p.lora_A, p.lora_B, o.r, loraScale(o))
    const norms = rowNorms(turned, site.outFeatures)
    return turned.map((v, i) => {
      const n = Math.floor(i / site.inFeatures)
      return (v * p.lora_magnitude_vector[n]) / norms[n]
    })
  },
  replaces: loraReplaces,
  remainder: loraRemainder,
  standalone: (p, start, o) => {
    const { options, params } = standaloneFactors(p, start, o)
    return { options, params: { ...params, lora_magnitude_vector: new Float32Array(p.lora_magnitude_vector) } }
  },
  toConfig: (o, facts) => loraConfig(o, facts, true),
  matches: (c) => c.use_dora === true,
  fromConfig: loraFromConfig,
})
