/** @file Activation functions, alone and gating. The gradient is taken from the input; no output is kept. */
import { type Activation, activationKernel } from '../../kernels/activation.ts'
import { numel, ShapeError, type Shape, type Tensor } from '../../tensor/graph.ts'
import { liveVec4s, requireVec4 } from './live.ts'

function activation(kind: Activation, x: Tensor, gated: boolean): Tensor {
  const g = x.graph
  const shape: Shape = gated ? [x.shape[0], x.cols / 2] : x.shape
  const form = gated ? (['gated'] as const) : []
  const name = gated ? `gated ${kind}` : kind
  const sized = (t: Tensor) => ({ len: liveVec4s(t), width: gated ? t.cols / 4 : Math.ceil(numel(t.shape) / 4) })
  const out = g.node(name, shape, [x], (dy) => [
    (into) => {
      const dx = into ?? g.node(`${name} dx`, x.shape, [x], null)
      g.call(activationKernel, { x, dy, out: dx }, sized(dy), { flags: [kind, ...form, 'grad', ...(into ? (['add'] as const) : [])] })
      return dx
    },
  ])
  g.call(activationKernel, { x, out }, sized(out), { flags: [kind, ...form] })
  return out
}

function gate(op: string, kind: Activation, gateUp: Tensor): Tensor {
  if (gateUp.shape.length !== 2 || gateUp.cols % 2) throw new ShapeError(op, 'gate | up, [M, 2 F]', gateUp.shape)
  requireVec4(op, [gateUp.cols / 2])
  return activation(kind, gateUp, true)
}

/** silu(gate) · up. gateUp: [M, 2 F] = gate | up, F a multiple of 4; returns [M, F]. Shazeer 2020, https://arxiv.org/abs/2002.05202. */
export const swiglu = (gateUp: Tensor): Tensor => gate('swiglu', 'silu', gateUp)
/** gelu(gate) · up. gateUp: [M, 2 F] = gate | up, F a multiple of 4; returns [M, F]. */
export const gatedGelu = (gateUp: Tensor, form: 'tanh' | 'erf'): Tensor => gate('gated_gelu', `gelu_${form}`, gateUp)
/** x Φ(x), exact ('erf') or by its tanh approximation, as torch's gelu. Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415. */
export const gelu = (x: Tensor, form: 'tanh' | 'erf'): Tensor => activation(`gelu_${form}`, x, false)
/** max(x, 0); its derivative at 0 is 0, as torch has it. */
export const relu = (x: Tensor): Tensor => activation('relu', x, false)
