/** Every registered method holds to what test/method_suite.ts asks of any; and so does one that exists in this file alone: a method is its
 * declaration, and nothing else in the program has to know it. */
import { expect, test } from 'vitest'
import type { AdaptedLayer } from '../../test/method_layer.ts'
import { K } from '../../test/method_layer.ts'
import { methodSuite } from '../../test/method_suite.ts'
import { mulColumns } from '../autograd/ops/columns.ts'
import { add, scale } from '../autograd/ops/pointwise.ts'
import { float, names } from '../options.ts'
import { lora } from './lora.ts'
import { defineLinear } from './method.ts'
import { METHODS } from './registry.ts'
import { ALL_LINEAR, configTargets, numberField, selectTargets } from './targets.ts'

/** 1 / ‖W + s B A‖ of each row: Liu et al. 2024, section 4.3, hold it constant in the gradient. */
function inverseNorms(layer: AdaptedLayer, values: Readonly<Record<string, Float32Array<ArrayBuffer>>>): Float64Array {
  const { weight } = layer.merged(values, lora)
  return Float64Array.from({ length: layer.rows }, (_, n) => 1 / Math.hypot(...weight.subarray(n * K, n * K + K)))
}
for (const m of METHODS.values()) methodSuite(m, m.id === 'dora' ? { detached: inverseNorms } : {})

const OPTIONS = {
  strength: float({ label: 'Strength', help: 'Multiplies the gains.', default: 2, min: 0.1, max: 10, step: 0.1 }),
  target_modules: names({ label: 'Target modules', help: 'Layers that are scaled.', default: [ALL_LINEAR], suggestions: [ALL_LINEAR] }),
} as const
/** y = (1 + s g) ∘ (W x + b). */
const gain = defineLinear<typeof OPTIONS, 'gain'>({
  id: 'gain',
  title: 'Gain',
  summary: 'A factor for each output.',
  paper: { cite: 'Liu et al. 2022', url: 'https://arxiv.org/abs/2205.05638' },
  slot: 'linear',
  peftType: 'GAIN',
  fused: true,
  merges: true,
  options: OPTIONS,
  runDefaults: { lr: 1e-2 },
  rateByWidth: false,
  targets: (o, available) => selectTargets(o.target_modules, available),
  params: ({ outFeatures }) => ({ gain: { shape: [outFeatures], init: 'zeros' } }),
  key: (p) => p,
  forward: (x, site, p, o) => {
    const y = site.base(x, { residual: false })
    const scaled = add(y, scale(mulColumns(y, p.gain), o.strength))
    return site.residual ? add(scaled, site.residual) : scaled
  },
  merge: (site, W, p, o) => W.map((v, i) => v * (1 + o.strength * p.gain[Math.floor(i / site.inFeatures)])),
  mergeBias: (_site, b, p, o) => b.map((v, i) => v * (1 + o.strength * p.gain[i])),
  toConfig: (o, { targets }) => ({ strength: o.strength, target_modules: targets }),
  matches: () => true,
  fromConfig: (c) => ({ strength: numberField(c, 'strength'), target_modules: configTargets(c) }),
})
methodSuite(gain)

test('the registry knows each method by its own id', () => {
  for (const [id, m] of METHODS) expect(m.id).toBe(id)
})
