/** @file Supervised fine-tuning: next-token cross-entropy over labelled rows, with the output projection. Logits exist only a chunk of rows at a time. */
import { backward } from '../autograd/backward.ts'
import { gatherRows, tableChunks } from '../autograd/ops/embedding.ts'
import { crossEntropyRows, reduceLoss } from '../autograd/ops/loss.ts'
import { asWeight, emitMatmul } from '../autograd/ops/matmul.ts'
import { derived, type Scalar, type Tensor } from '../tensor/graph.ts'
import type { Weight } from '../tensor/weight.ts'

export interface LabelledRows {
  /** u32 [n]: the row of `hidden` of each label; `count` are live. */
  readonly index: Tensor
  /** u32 [rows]: which label a row has, 0xffffffff for none. */
  readonly inverse: Tensor
  /** u32 [n]. */
  readonly targets: Tensor
  readonly count: Scalar
  /** 1 / labels of the whole optimizer step. */
  readonly scale: Scalar
  /** f32 [1]: the sum of the losses is added here. */
  readonly lossSum: Tensor
}

/** Rows of logits that exist at once: about 32 MB, in multiples of 64, and at most `most`. */
export const headChunk = (vocab: number, labels: number, most = Infinity): number =>
  Math.min(labels, most, Math.max(64, Math.floor((32 << 20) / (vocab * 4) / 64) * 64))

/** Append loss (and, unless `forwardOnly`, everything backward from it). `headRows`: most rows of logits at once. hidden: [rows, C]; head: [V, C].
 * Logits of a chunk become their own gradient in place, so they are computed once (Liger Kernel's fused linear cross-entropy,
 * https://arxiv.org/abs/2410.10989, section 3.2); a head larger than a binding is read in pieces. */
export function sftLoss(
  hidden: Tensor,
  head: Weight,
  b: LabelledRows,
  o: { forwardOnly?: boolean; headRows?: number; softcap?: number } = {},
): void {
  const { graph } = hidden
  const n = b.index.shape[0]
  const C = hidden.cols
  const V = head.rows
  const made = graph.within('head', () => {
    const rows = gatherRows(hidden, b.index, b.count, b.inverse)
    const trainsHead = head.data.needsGrad
    const grad = o.forwardOnly ? null : graph.node('head_dx', [n, C], [rows], null, { rows: b.count })
    const chunk = headChunk(V, n, o.headRows)
    const losses = graph.node('losses', [n], [rows], null, { rows: b.count })
    const pieces = tableChunks(head).map((p) => ({ first: p.first, weight: { ...head, rows: p.rows, data: p.data, scales: p.scales } }))
    for (let from = 0; from < n; from += chunk) {
      const size = Math.min(chunk, n - from)
      const live = derived(() => Math.min(Math.max(b.count.value - from, 0), size))
      const logits = graph.node('logits', [size, V], [rows], null, { rows: live })
      for (const { first, weight } of pieces)
        emitMatmul({ layout: 'nt', a: rows, aOff: from * C, b: weight, c: logits, cOff: first, M: live, N: weight.rows, K: C })
      const { grad: dLogits } = crossEntropyRows(logits, b.targets, live, b.scale, {
        forwardOnly: o.forwardOnly === true,
        first: from,
        into: losses,
        ...(o.softcap && { softcap: o.softcap }),
      })
      if (!dLogits || !grad) continue
      pieces.forEach(({ first, weight }, i) => {
        emitMatmul({
          layout: 'nn',
          a: dLogits,
          aOff: first,
          b: weight,
          c: grad,
          cOff: from * C,
          M: live,
          N: C,
          K: weight.rows,
          accumulate: i > 0,
        })
      })
      if (trainsHead)
        emitMatmul({
          layout: 'tn',
          a: dLogits,
          b: asWeight(rows),
          bOff: from * C,
          c: head.data.sink!,
          M: V,
          N: C,
          K: live,
          accumulate: true,
        })
    }
    reduceLoss(losses, b.count, b.lossSum)
    return { rows, grad }
  })
  if (made.grad) backward(made.rows, made.grad)
}
