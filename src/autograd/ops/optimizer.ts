/** @file What an optimizer step appends to the graph: the gradient's norm and clip coefficient, and AdamW over flat buffers. Not differentiable. */
import { adamwKernel, adamw8bitKernel, gradStatsKernel, sumSquaresKernel } from '../../kernels/optimizer.ts'
import { derived, type Dim, numel, ShapeError, type Tensor } from '../../tensor/graph.ts'
import { now, rowGroup } from './live.ts'

/** Elements that share a factor of the learning rate: a tensor in a flat buffer starts at a multiple of 256 bytes. */
export const LR_BLOCK = 64
/** Fields of the stats tensor, f32 [4]; the last is spare. */
export const STATS = { norm: 0, clipCoefficient: 1, nonFinite: 2, length: 4 } as const

function requireFlat(op: string, n: number, ...tensors: Tensor[]): void {
  for (const t of tensors)
    if (numel(t.shape) !== n || n % 4 || t.dtype !== 'f32')
      throw new ShapeError(op, `flat f32 buffers of ${n} elements, a multiple of 4`, t.shape)
}

/** Norm of all gradients together, and the factor that limits it to `clip` (0: no limit), as torch.nn.utils.clip_grad_norm_.
 * Writes `stats` (f32 [4], see STATS). A gradient that holds a NaN or an infinity, or whose square sum overflows, sets `nonFinite` to 1, and so does such a
 * `loss` (f32 [1]); it stays 1 until the host writes it. */
export function gradNorm(grads: readonly Tensor[], clip: Dim, stats: Tensor, loss: Tensor | null = null): void {
  const g = stats.graph
  if (numel(stats.shape) !== STATS.length) throw new ShapeError('grad_norm', 'stats [4]', stats.shape)
  if (grads.length === 0) throw new ShapeError('grad_norm', 'at least one gradient')
  const WORKGROUP = rowGroup(g.target, 64)
  let first = 0
  const parts = grads.map((grad) => {
    const len = numel(grad.shape) / 4
    requireFlat('grad_norm', numel(grad.shape), grad)
    // At least 8 vec4s a lane, at most 512 sums to add up in the end.
    const part = { grad, len, first, groups: Math.max(1, Math.min(512, Math.ceil(len / (8 * WORKGROUP)))) }
    first += part.groups
    return part
  })
  const partial = g.node('grad_norm partial', [first], grads, null, { rows: first })
  for (const { grad, len, first: at, groups } of parts)
    g.call(sumSquaresKernel, { g: grad, out: partial }, { len, first: at, groups }, { constants: { WORKGROUP } })
  g.call(gradStatsKernel, { partial, stats, loss }, { len: first, clip }, { flags: loss ? ['loss'] : [], constants: { WORKGROUP } })
}

/** One flat buffer's worth of trained parameters. All f32 of equal length, a multiple of 4. */
export interface FlatState {
  readonly param: Tensor
  readonly grad: Tensor
  readonly m: Tensor
  readonly v: Tensor
  /** f32 [ceil(length / LR_BLOCK)]: factor of the learning rate for each block. */
  readonly lrScale: Tensor
}
export interface AdamWOptions {
  readonly lr: Dim
  /** Optimizer step, from 1; counts only steps that were taken. */
  readonly step: Dim
  readonly beta1: number
  readonly beta2: number
  readonly eps: number
  readonly weightDecay: Dim
  /** Zero the gradient after use, so that the next step's can be added to it. Also done where the step is skipped. */
  readonly clear?: boolean
}

/** One AdamW step in one dispatch, as torch.optim.AdamW: decay by lr · lrScale, bias-corrected moments, eps added to √v̂. The gradient is first multiplied by
 * stats' clip coefficient. Where `stats` says non-finite, parameters and moments stay as they are. */
export function adamwStep({ param, grad, m, v, lrScale }: FlatState, stats: Tensor, o: AdamWOptions): void {
  const n = numel(param.shape)
  requireFlat('adamw', n, param, grad, m, v)
  if (numel(lrScale.shape) !== Math.ceil(n / LR_BLOCK))
    throw new ShapeError('adamw', `a rate factor for each of ${Math.ceil(n / LR_BLOCK)} blocks`, lrScale.shape)
  param.graph.call(
    adamwKernel,
    { param, grad, m, v, lr_scale: lrScale, stats },
    { len: n / 4, ...adamUniforms(o) },
    { flags: o.clear ? ['clear'] : [] },
  )
}

const adamUniforms = (o: AdamWOptions) => ({
  lr: o.lr,
  one_minus_beta1: 1 - o.beta1,
  beta2: o.beta2,
  one_minus_beta2: 1 - o.beta2,
  eps: o.eps,
  weight_decay: o.weightDecay,
  bias1: derived(() => 1 - o.beta1 ** now(o.step)),
  root_bias2: derived(() => Math.sqrt(1 - o.beta2 ** now(o.step))),
})

/** How moments are kept in 8 bits. `dynamic`: blocks as bitsandbytes' AdamW8bit (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861), `expand`: COAT's
 * E4M3 with dynamic range expansion (Xi et al. 2024, https://arxiv.org/abs/2410.19313, section 4). Elements that share a scale, and its words. */
export const MOMENTS_8BIT = { dynamic: { block: 256, scaleWords: 1 }, expand: { block: 128, scaleWords: 2 } } as const
export type Moments8bit = keyof typeof MOMENTS_8BIT
/** Bytes of a moment of `n` elements: its codes, then the scales. */
export const moment8bitBytes = (kind: Moments8bit, n: number): number =>
  n + (n / MOMENTS_8BIT[kind].block) * MOMENTS_8BIT[kind].scaleWords * 4

export interface FlatState8bit extends Omit<FlatState, 'm' | 'v'> {
  readonly kind: Moments8bit
  /** u32 [moment8bitBytes / 4]; zeros at the start. */
  readonly m: Tensor
  readonly v: Tensor
  /** f32 [1024], see optim/dynamic_map.ts; `dynamic` only. */
  readonly tables: Tensor | null
}

/** `adamwStep` with moments in 8 bits: decoded, updated and encoded in one dispatch. The update uses the moments before they are rounded. */
export function adamw8bitStep({ kind, param, grad, m, v, lrScale, tables }: FlatState8bit, stats: Tensor, o: AdamWOptions): void {
  const n = numel(param.shape)
  requireFlat('adamw_8bit', n, param, grad)
  const { block } = MOMENTS_8BIT[kind]
  const words = moment8bitBytes(kind, n) / 4
  if (n % block) throw new ShapeError('adamw_8bit', `whole blocks of ${block}`, param.shape)
  if (
    [m, v].some((t) => t.dtype !== 'u32' || numel(t.shape) !== words) ||
    numel(lrScale.shape) !== n / LR_BLOCK ||
    (kind === 'dynamic' && !tables)
  )
    throw new ShapeError('adamw_8bit', `moments of ${words} words and ${n / LR_BLOCK} rate factors`, m.shape, v.shape, lrScale.shape)
  param.graph.call(
    adamw8bitKernel,
    { param, grad, m, v, lr_scale: lrScale, stats, tables },
    { blocks: n / block, codes: n / 4, words: block / 4, codes_half: 128, ...adamUniforms(o) },
    {
      flags: [kind, ...(o.clear ? (['clear'] as const) : [])],
      constants: { WORKGROUP: Math.min(rowGroup(param.graph.target, block / 4), block / 4), BLOCK: block },
    },
  )
}
