/** @file (IA)³: learned vectors scale keys, values and the inner activations of the feed-forward block (Liu et al. 2022). */
import { mulColumns } from '../autograd/ops/columns.ts'
import { add } from '../autograd/ops/pointwise.ts'
import { AdapterError } from '../errors.ts'
import { names, type Values } from '../options.ts'
import { defineLinear } from './method.ts'
import { configTargets, requireOff, selectTargets } from './targets.ts'

/** Keys, values and the feed-forward block's second layer, by what families call them (peft/utils/constants.py). Where the first names are chosen and a model
 * has none of them, the first others that it has all of are taken. */
const KINDS = [
  { targets: ['k_proj', 'v_proj', 'down_proj'], feedForward: 'down_proj' },
  { targets: ['k_proj', 'v_proj', 'fc2'], feedForward: 'fc2' },
  { targets: ['c_attn', 'mlp.c_proj'], feedForward: 'mlp.c_proj' },
  { targets: ['qkv_proj', 'down_proj'], feedForward: 'down_proj' },
] as const
const OPTIONS = {
  target_modules: names({
    label: 'Target modules',
    help: 'Layers that are scaled. The default means keys, values and the second feed-forward layer, whatever the model calls them.',
    default: KINDS[0].targets,
    suggestions: ['all-linear'],
  }),
  feedforward_modules: names({
    label: 'Feed-forward modules',
    help: 'Those of the targets whose input is scaled instead of their output.',
    default: [KINDS[0].feedForward],
    suggestions: [],
  }),
} as const
/** Matches no module: a list of names may not be empty. */
const NONE = '(none)'
const same = (a: readonly string[], b: readonly string[]): boolean => [...a].sort().join() === [...b].sort().join()
const isNamed = (path: string, name: string): boolean => path === name || path.endsWith(`.${name}`)
const isFeedForward = (path: string, o: Values<typeof OPTIONS>): boolean =>
  (same(o.feedforward_modules, OPTIONS.feedforward_modules.default) ? KINDS.map((k) => k.feedForward) : o.feedforward_modules).some((f) =>
    isNamed(path, f),
  )

function targetsOf(o: Values<typeof OPTIONS>, available: readonly string[]): readonly string[] {
  const has = (name: string): boolean => available.some((path) => isNamed(path, name))
  const kind = same(o.target_modules, OPTIONS.target_modules.default) ? KINDS.find((k) => k.targets.every(has)) : undefined
  return selectTargets(kind?.targets ?? o.target_modules, available)
}

/** PEFT wants feed-forward modules among the targets, under the same names: suffixes where each means one kind of layer, else paths. */
function feedForwardTargets(o: Values<typeof OPTIONS>, targets: readonly string[], paths: readonly string[]) {
  const kinds = targets.map((t) => new Set(paths.filter((p) => p === t || p.endsWith(`.${t}`)).map((p) => isFeedForward(p, o))))
  if (kinds.every((k) => k.size === 1))
    return { target_modules: targets, feedforward_modules: targets.filter((_, i) => kinds[i].has(true)) }
  return { target_modules: paths, feedforward_modules: paths.filter((p) => isFeedForward(p, o)) }
}

/** y = l ∘ (W x + b), or W (l ∘ x) + b in feed-forward layers (https://arxiv.org/abs/2205.05638, section 3.3). */
export const ia3 = defineLinear<typeof OPTIONS, 'ia3_l'>({
  id: 'ia3',
  title: '(IA)³',
  summary: 'One learned scale for each key, value and feed-forward unit.',
  paper: { cite: 'Liu et al. 2022', url: 'https://arxiv.org/abs/2205.05638' },
  slot: 'linear',
  peftType: 'IA3',
  fused: false,
  merges: true,
  options: OPTIONS,
  runDefaults: { lr: 1e-2 },
  rateByWidth: false,
  targets: targetsOf,
  params: ({ name, inFeatures, outFeatures }, o) => ({
    ia3_l: { shape: isFeedForward(name, o) ? [1, inFeatures] : [outFeatures, 1], init: 'ones' },
  }),
  key: (p) => p,
  forward: (x, site, { ia3_l }, o) => {
    if (isFeedForward(site.members[0], o)) return site.base(mulColumns(x, ia3_l))
    const y = mulColumns(site.base(x, { residual: false }), ia3_l)
    return site.residual ? add(y, site.residual) : y
  },
  merge: ({ name, inFeatures }, W, { ia3_l }, o) => {
    const feedForward = isFeedForward(name, o)
    return W.map((v, i) => v * ia3_l[feedForward ? i % inFeatures : Math.floor(i / inFeatures)])
  },
  // The scale of the output comes after the bias (peft/tuners/ia3/layer.py, Linear.merge).
  mergeBias: ({ name }, bias, { ia3_l }, o) => (isFeedForward(name, o) ? bias : bias.map((v, i) => v * ia3_l[i])),
  toConfig: (o, { targets, paths, fanInFanOut }) => ({
    ...feedForwardTargets(o, targets, paths),
    exclude_modules: null,
    fan_in_fan_out: fanInFanOut,
    init_ia3_weights: true,
    modules_to_save: null,
  }),
  matches: () => true,
  fromConfig: (config) => {
    requireOff(config, ['modules_to_save'])
    const ff = config.feedforward_modules ?? OPTIONS.feedforward_modules.default
    if (!Array.isArray(ff) || !ff.every((f): f is string => typeof f === 'string' && f !== ''))
      throw new AdapterError(`feedforward_modules = ${JSON.stringify(ff)} is not supported: expected a list of module names`, {
        where: 'adapter_config.json',
        why: 'it says which vectors scale the input of a layer and which its output',
        fix: 'Write the names of the modules in place of the expression',
      })
    return { target_modules: configTargets(config), feedforward_modules: ff.length > 0 ? ff : [NONE] }
  },
})
