/** @file Element-wise ops and their gradients. */
import { type POINTWISE, pointwiseKernel } from '../../kernels/pointwise.ts'
import { numel, type Dim, ShapeError, type Tensor, times, type Vjp } from '../../tensor/graph.ts'

type Name = keyof typeof POINTWISE
/** Elements in the live rows of x. */
export const liveLength = (x: Tensor): Dim => times(x.rows, numel(x.shape.slice(1)))

function pointwise(name: Name, x: Tensor, y: Tensor | null, alpha: Dim, vjp: Vjp | null): Tensor {
  if (y && numel(x.shape) % numel(y.shape)) throw new ShapeError(name, 'y to broadcast over the leading axes of x', x.shape, y.shape)
  const out = x.graph.node(name, x.shape, y ? [x, y] : [x], vjp)
  emit(name, x, y, alpha, out, [])
  return out
}
function emit(name: Name, x: Tensor, y: Tensor | null, alpha: Dim, out: Tensor, flags: 'add'[]): void {
  // Reading and writing one buffer in a dispatch is not allowed: in-place forms are kernels of their own.
  x.graph.call(
    pointwiseKernel,
    { x, y, out },
    { len: liveLength(x), y_len: y ? numel(y.shape) : 1, alpha },
    { apply: name, flags: [...(y ? (['binary'] as const) : []), ...flags] },
  )
}

/** dst += src, in place, or dst = src. Appends a call; not differentiable: for gradients and state. */
export function accumulate(dst: Tensor, src: Tensor, overwrite = false): void {
  if (numel(dst.shape) !== numel(src.shape)) throw new ShapeError('accumulate', 'equal sizes', dst.shape, src.shape)
  emit('copy', src, null, 1, dst, overwrite ? [] : ['add'])
}

/** x: [..., C]; y: same shape. */
export const add = (x: Tensor, y: Tensor): Tensor => pointwise('add', x, y, 1, (d) => [() => d, () => d])
/** x * y, same shape. */
export const mul = (x: Tensor, y: Tensor): Tensor =>
  pointwise('mul', x, y, 1, (d) => [() => pointwise('mul', d, y, 1, null), () => pointwise('mul', d, x, 1, null)])
/** x * alpha. */
export const scale = (x: Tensor, alpha: number): Tensor => pointwise('copy', x, null, alpha, (d) => [() => scale(d, alpha)])
/** y + alpha (x - y), alpha live: how strongly an adapter acts. Not differentiable. */
export const mix = (x: Tensor, y: Tensor, alpha: Dim): Tensor => pointwise('mix', x, y, alpha, null)
/** out = cap · tanh(x / cap), for the logits that text is chosen from. Appends a call; not differentiable (training: `crossEntropyRows`). */
export const softcapInto = (out: Tensor, x: Tensor, cap: number): void => emit('softcap', x, null, cap, out, [])
/** x * sigmoid(x). */
export const silu = (x: Tensor): Tensor => pointwise('silu', x, null, 1, (d) => [() => pointwise('silu_grad', x, d, 1, null)])
