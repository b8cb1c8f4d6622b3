/** @file Normalisation of rows. Neither op keeps its output: gradients are taken from the input. */
import { normGradKernel, normKernel } from '../../kernels/norm.ts'
import { ShapeError, type Tensor } from '../../tensor/graph.ts'
import { columnSum } from './column_sum.ts'
import { requireVec4, rowGroup } from './live.ts'

interface NormArguments {
  readonly op: string
  readonly x: Tensor
  readonly weight: Tensor
  readonly bias: Tensor | null
  readonly eps: number
  readonly center: boolean
  readonly onePlus: boolean
}

function norm({ op, x, weight, bias, eps, center, onePlus }: NormArguments): Tensor {
  const g = x.graph
  const C = x.cols
  for (const t of bias ? [weight, bias] : [weight])
    if (x.shape.length !== 2 || t.shape.length !== 1 || t.cols !== C) throw new ShapeError(op, 'x [M, C] and a scale [C]', x.shape, t.shape)
  requireVec4(op, x.shape)
  const WORKGROUP = rowGroup(g.target, C / 4)
  const uniforms = { rows: x.rows, width: C / 4, eps, ranks: 0, alpha: 1 }
  const save = weight.needsGrad || (center && x.needsGrad)
  const stats = save ? g.node(`${op} stats`, [x.shape[0], 2], [x], null) : null
  const shared = [...(center ? (['center'] as const) : []), ...(onePlus ? (['one_plus'] as const) : [])]

  const out = g.node(op, x.shape, bias ? [x, weight, bias] : [x, weight], (dy) => [
    (into) => {
      const d = into ?? g.node(`${op} dx`, x.shape, [x], null)
      g.call(normGradKernel, { x, weight, dy, stats: center ? stats : null, out: d }, uniforms, {
        flags: [...shared, ...(into ? (['add'] as const) : [])],
        constants: { WORKGROUP },
      })
      return d
    },
    (into) => columnSum(`${op} dweight`, { dy, x, stats: stats!, shape: [C] }, into),
    bias && ((into) => columnSum(`${op} dbias`, { dy, shape: [C] }, into)),
  ])
  g.call(normKernel, { x, weight, bias, out, stats }, uniforms, {
    flags: [...shared, ...(bias ? (['bias'] as const) : []), ...(save ? (['save'] as const) : [])],
    constants: { WORKGROUP },
  })
  return out
}

/** x / sqrt(mean(x²) + eps) · weight, or · (1 + weight) as Gemma stores it. x: [M, C], weight: [C], C a multiple of 4.
 * Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4. */
export const rmsNorm = (x: Tensor, weight: Tensor, eps: number, o: { onePlusWeight?: boolean } = {}): Tensor =>
  norm({ op: 'rms_norm', x, weight, bias: null, eps, center: false, onePlus: o.onePlusWeight ?? false })

/** (x - mean) / sqrt(var + eps) · weight + bias, with the biased variance, as torch.nn.LayerNorm. x: [M, C], C a multiple of 4.
 * Ba et al. 2016, https://arxiv.org/abs/1607.06450. */
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor | null, eps: number): Tensor =>
  norm({ op: 'layer_norm', x, weight, bias, eps, center: true, onePlus: false })
