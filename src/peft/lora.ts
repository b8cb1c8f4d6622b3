/** @file LoRA (Hu et al. 2021) with rsLoRA's scale, LoRA+'s learning rates, dropout, and the PiSSA and OLoRA initialisations. */
import { dropout } from '../autograd/ops/dropout.ts'
import { lowRankLinear } from '../autograd/ops/linear.ts'
import { AdapterError, OptionError } from '../errors.ts'
import { bool, choice, float, int, names, type Values } from '../options.ts'
import type { Tensor } from '../tensor/graph.ts'
import { truncatedQr, truncatedSvd } from './decompose.ts'
import {
  type ConfigFacts,
  defineLinear,
  type HostSite,
  type Initial,
  type Json,
  type LinearMethod,
  type LinearSite,
  type MethodContext,
} from './method.ts'
import { ALL_LINEAR, configTargets, numberField, requireOff, selectTargets } from './targets.ts'

export const LORA_OPTIONS = {
  r: int({ label: 'Rank r', help: 'Inner dimension of the update B A.', default: 8, min: 1, max: 1024 }),
  alpha: float({ label: 'Alpha', help: 'The update is scaled by alpha / r.', default: 16, min: 0.001, max: 65_536, step: 1 }),
  dropout: float({
    label: 'Dropout',
    help: 'Share of the input of A that is zeroed at each step.',
    default: 0,
    min: 0,
    max: 0.95,
    step: 0.05,
  }),
  target_modules: names({
    label: 'Target modules',
    help: 'Layers that get an update: names, or all-linear.',
    default: [ALL_LINEAR],
    suggestions: [ALL_LINEAR],
  }),
  use_rslora: bool({
    label: 'rsLoRA',
    help: 'Scale by alpha / √r instead, so that high ranks learn too (Kalajdzievski 2023).',
    default: false,
    advanced: true,
  }),
  loraplus_lr_ratio: float({
    label: 'LoRA+ ratio',
    help: "B's learning rate over A's; 1 is plain LoRA, the paper suggests 16 (Hayou et al. 2024).",
    default: 1,
    min: 0.001,
    max: 1024,
    step: 1,
    advanced: true,
  }),
  init_lora_weights: choice({
    label: 'Initialisation',
    help: 'true: A random, B zero. gaussian: A normal. pissa, olora: from the weight itself, whose remainder stays frozen (Meng et al. 2024; Büyükakyüz 2024).',
    default: 'true',
    choices: ['true', 'gaussian', 'pissa', 'olora'],
    advanced: true,
  }),
} as const
export type LoraValues = Values<typeof LORA_OPTIONS>

/** alpha / r, or alpha / √r with rsLoRA (https://arxiv.org/abs/2312.03732, equation 9). */
export const loraScale = ({ r, alpha, use_rslora }: LoraValues): number => alpha / (use_rslora ? Math.sqrt(r) : r)

type Param = 'lora_A' | 'lora_B'
type Declared = LinearMethod<typeof LORA_OPTIONS, Param>

export const loraTargets: Declared['targets'] = (o, available) => selectTargets(o.target_modules, available)
/** PyTorch's kaiming_uniform_(a=√5): uniform in ±1/√in. */
export const loraParams: Declared['params'] = ({ inFeatures, outFeatures }, o) => ({
  lora_A: {
    shape: [o.r, inFeatures],
    init: o.init_lora_weights === 'gaussian' ? { normal: 1 / o.r } : { uniform: 1 / Math.sqrt(inFeatures) },
  },
  lora_B: { shape: [outFeatures, o.r], init: 'zeros', lr: o.loraplus_lr_ratio },
})

/** Adapted layer W x + s B A x, on fused projections too. */
export function loraForward(
  x: Tensor,
  site: LinearSite,
  p: Readonly<Record<Param, Tensor>>,
  o: LoraValues,
  ctx: MethodContext,
  residual: Tensor | null,
  bias: Tensor | null,
): Tensor {
  const dropped = o.dropout > 0 && ctx.training ? dropout(x, o.dropout, { seed: ctx.seed, stream: ctx.stream }) : null
  return lowRankLinear(x, site.weight, p.lora_A, p.lora_B, {
    scale: loraScale(o),
    segments: site.segments,
    range: site.range,
    residual,
    bias,
    ...(dropped && { xLowRank: dropped }),
  })
}

/** W + s B A on the host. */
export function addUpdate(
  W: Float32Array<ArrayBuffer>,
  A: Float32Array,
  B: Float32Array,
  r: number,
  scale: number,
): Float32Array<ArrayBuffer> {
  const inFeatures = A.length / r
  const out = new Float32Array(W)
  for (let n = 0; n < B.length / r; n++) {
    const row = out.subarray(n * inFeatures, (n + 1) * inFeatures)
    for (let j = 0; j < r; j++) {
      const b = scale * B[n * r + j]
      if (b === 0) continue
      const a = A.subarray(j * inFeatures, (j + 1) * inFeatures)
      for (let k = 0; k < inFeatures; k++) row[k] += b * a[k]
    }
  }
  return out
}

/** PiSSA: W's r leading singular directions become the update, the rest stays (https://arxiv.org/abs/2404.02948, equations 2 to 4).
 * OLoRA: W = Q R, B and A are Q's first r columns and R's first r rows (https://arxiv.org/abs/2406.01775, algorithm 1).
 * The scale s of the update goes into PiSSA's factors, and stays outside of OLoRA's, as in PEFT's src/peft/tuners/lora/layer.py. */
export async function decomposedInit(site: HostSite, o: LoraValues): Promise<Initial> {
  const { r } = o
  if (2 * r > LORA_OPTIONS.r.max)
    throw new OptionError(`got ${r}, expected at most ${LORA_OPTIONS.r.max / 2} with init_lora_weights = ${o.init_lora_weights}`, {
      where: 'r',
      why: 'the adapter that others can load has twice the rank',
    })
  const W = await site.weight()
  const { outFeatures: N, inFeatures: K } = site
  const pissa = o.init_lora_weights === 'pissa'
  const { A, B } = pissa ? truncatedSvd(W, N, K, r) : truncatedQr(W, N, K, r)
  const s = pissa ? 1 / Math.sqrt(loraScale(o)) : 1
  return { params: { lora_A: A.map((v) => v * s), lora_B: B.map((v) => v * s) } }
}
/** W - s B₀ A₀, for the rows of W from `first` on. */
export const loraRemainder: NonNullable<Declared['remainder']> = (rows, first, { lora_A, lora_B }, o) => {
  const count = rows.length / (lora_A.length / o.r)
  return addUpdate(rows, lora_A, lora_B.subarray(first * o.r, (first + count) * o.r), o.r, -loraScale(o))
}
/** PiSSA and OLoRA train beside what they left of the weight. */
export const loraReplaces = (o: LoraValues): boolean => o.init_lora_weights === 'pissa' || o.init_lora_weights === 'olora'
export const loraInitialise: NonNullable<Declared['initialise']> = async (site, o, draw) =>
  loraReplaces(o) ? decomposedInit(site, o) : { params: { lora_A: draw('lora_A'), lora_B: draw('lora_B') } }

/** W - s B₀ A₀ + s B A as an update of rank 2 r of the original W: A' = [A; A₀], B' = [B, -B₀], with the same scale
 * (PEFT's subtract_mutated_init, src/peft/tuners/lora/model.py). */
export function standaloneFactors(
  p: Readonly<Record<Param, Float32Array>>,
  start: Readonly<Record<Param, Float32Array>>,
  o: LoraValues,
): { options: LoraValues; params: Record<Param, Float32Array<ArrayBuffer>> } {
  const { r } = o
  const lora_A = new Float32Array(p.lora_A.length * 2)
  lora_A.set(p.lora_A)
  lora_A.set(start.lora_A, p.lora_A.length)
  const lora_B = Float32Array.from({ length: p.lora_B.length * 2 }, (_, i) => {
    const [n, j] = [Math.floor(i / (2 * r)), i % (2 * r)]
    return j < r ? p.lora_B[n * r + j] : -start.lora_B[n * r + j - r]
  })
  return {
    options: { ...o, r: 2 * r, alpha: o.alpha * (o.use_rslora ? Math.SQRT2 : 2), init_lora_weights: 'true' },
    params: { lora_A, lora_B },
  }
}

export function loraConfig(o: LoraValues, { targets, fanInFanOut }: ConfigFacts, useDora: boolean): Json {
  return {
    r: o.r,
    lora_alpha: o.alpha,
    lora_dropout: o.dropout,
    use_rslora: o.use_rslora,
    use_dora: useDora,
    init_lora_weights: o.init_lora_weights === 'true' ? true : o.init_lora_weights,
    target_modules: targets,
    exclude_modules: null,
    bias: 'none',
    fan_in_fan_out: fanInFanOut,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: {},
    alpha_pattern: {},
    modules_to_save: null,
    lora_bias: false,
  }
}
/** Not among them: fan_in_fan_out, which PEFT itself corrects by the kind of layer it meets (LoraModel, dispatch_default). */
const UNSUPPORTED = [
  'rank_pattern',
  'alpha_pattern',
  'modules_to_save',
  'bias',
  'lora_bias',
  'layer_replication',
  'target_parameters',
  'trainable_token_indices',
  'use_qalora',
  'use_bdlora',
  'alora_invocation_tokens',
  'megatron_config',
  'arrow_config',
  'kasa_config',
  'velora_config',
  'monteclora_config',
] as const

/** How the adapter was initialised matters after training only where that changed the frozen weight (peft/tuners/lora/layer.py, update_layer). */
function loadedInit(init: unknown): LoraValues['init_lora_weights'] {
  const name = typeof init === 'string' ? init.toLowerCase() : ''
  if (name.startsWith('pissa')) return 'pissa'
  if (name === 'olora') return 'olora'
  if (name.startsWith('corda') || name === 'loftq' || name === 'lora_ga')
    throw new AdapterError(`init_lora_weights = ${JSON.stringify(init)} is not supported`, {
      where: 'adapter_config.json',
      why: 'the adapter was trained beside weights that this initialisation had changed, and they are not in its files',
      fix: 'Save it with path_initial_model_for_weight_conversion, which makes a LoRA of the original model, or merge it with PEFT and load the merged model',
    })
  return 'true'
}

export function loraFromConfig(config: Json): LoraValues {
  requireOff(config, UNSUPPORTED)
  return {
    r: numberField(config, 'r', 8),
    alpha: numberField(config, 'lora_alpha', 8),
    dropout: numberField(config, 'lora_dropout', 0),
    use_rslora: config.use_rslora === true,
    loraplus_lr_ratio: 1,
    init_lora_weights: loadedInit(config.init_lora_weights),
    target_modules: configTargets(config),
  }
}

export const lora = defineLinear<typeof LORA_OPTIONS, Param>({
  id: 'lora',
  title: 'LoRA',
  summary: 'A low-rank update B·A beside each linear layer; the model itself stays frozen.',
  paper: { cite: 'Hu et al. 2021', url: 'https://arxiv.org/abs/2106.09685' },
  slot: 'linear',
  peftType: 'LORA',
  fused: true,
  merges: true,
  options: LORA_OPTIONS,
  runDefaults: { lr: 1e-3 },
  rateByWidth: true,
  targets: loraTargets,
  params: loraParams,
  key: (p) => `${p}.weight`,
  initialise: loraInitialise,
  forward: (x, site, p, o, ctx) => loraForward(x, site, p, o, ctx, site.residual, site.bias),
  merge: (_site, W, p, o) => addUpdate(W, p.lora_A, p.lora_B, o.r, loraScale(o)),
  replaces: loraReplaces,
  remainder: loraRemainder,
  standalone: standaloneFactors,
  toConfig: (o, facts) => loraConfig(o, facts, false),
  matches: (c) => c.use_dora !== true,
  fromConfig: loraFromConfig,
})
