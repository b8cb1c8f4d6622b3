/** @file Cross-entropy of labelled rows. The loss and its gradient come from one dispatch, so these are not differentiable ops: seed `backward` with `grad`. */
import { crossEntropyKernel, totalKernel } from '../../kernels/cross_entropy.ts'
import { type Dim, numel, ShapeError, type Tensor } from '../../tensor/graph.ts'
import { rowGroup } from './live.ts'

/** Cross-entropy in nats of each row of logits [n, V] at targets (u32, below V) from number `first` on, for the first `count` rows. `softcap` c: of
 * c tanh(logits / c) (Gemma 2, https://arxiv.org/abs/2408.00118, section 2), with the gradient by the logits themselves.
 * `grad` is (softmax - onehot) · scale in the logits' own memory (scale: 1 / labelled tokens of the step); with `forwardOnly` it is null and the logits
 * stay. `loss` is f32 [targets], not scaled: `into`, where given, so that chunks of rows share one. A non-finite logit gives a non-finite loss. */
export function crossEntropyRows(
  logits: Tensor,
  targets: Tensor,
  count: Dim,
  scale: Dim,
  o: { forwardOnly?: boolean; first?: number; into?: Tensor; softcap?: number } = {},
): { readonly loss: Tensor; readonly grad: Tensor | null } {
  const g = logits.graph
  const [n, V] = [logits.shape[0], logits.cols]
  const { first = 0 } = o
  if (logits.shape.length !== 2 || targets.shape[0] < first + n || targets.dtype !== 'u32')
    throw new ShapeError('cross_entropy', `logits [n, V] and u32 targets [${first} + n]`, logits.shape, targets.shape)
  const vec4 = V % 4 === 0
  const width = vec4 ? V / 4 : V
  const loss = o.into ?? g.node('cross_entropy', targets.shape, [logits], null, { rows: count })
  const grad = o.forwardOnly ? null : g.node('cross_entropy grad', logits.shape, [logits], null, { rows: count, alias: logits })
  g.call(
    crossEntropyKernel,
    { logits: grad ?? logits, targets, loss },
    { rows: count, width, scale, first, cap: o.softcap ?? 0 },
    {
      flags: [...(vec4 ? (['vec4'] as const) : []), ...(grad ? [] : (['keep'] as const)), ...(o.softcap ? (['softcap'] as const) : [])],
      constants: { WORKGROUP: rowGroup(g.target, width) },
    },
  )
  return { loss, grad }
}

/** into[0] += Σ lossRows[0 … count), so that micro-batches add up; `overwrite` starts anew. Appends a call. */
export function reduceLoss(lossRows: Tensor, count: Dim, into: Tensor, o: { overwrite?: boolean } = {}): void {
  const g = lossRows.graph
  if (numel(into.shape) !== 1) throw new ShapeError('reduce_loss', 'one element to add to', into.shape)
  g.call(
    totalKernel,
    { x: lossRows, out: into },
    { len: count },
    { flags: o.overwrite ? [] : ['add'], constants: { WORKGROUP: rowGroup(g.target, 1024) } },
  )
}
