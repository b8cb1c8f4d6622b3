/** @file Activations that wait for the backward pass in half the memory: rows as f16 with a scale each. Core WGSL packs f16 without the f16 feature. */
import { packRowsKernel, unpackRowsKernel } from '../../kernels/half_rows.ts'
import type { Tensor } from '../../tensor/graph.ts'
import { liveVec4s, requireVec4, rowGroup } from './live.ts'

export interface HalfRows {
  /** u32 [M, C / 2]. */
  readonly packed: Tensor
  /** f32 [M]: the largest magnitude of each row. */
  readonly scales: Tensor
}

/** x [M, C], C a multiple of 4, rounded to 11 bits of each row's largest magnitude. */
export function packRows(x: Tensor): HalfRows {
  requireVec4('pack_rows', x.shape)
  const { graph: g, cols: C } = x
  const packed = g.node('packed rows', [x.shape[0], C / 2], [x], null, { rows: x.rows, dtype: 'u32' })
  const scales = g.node('row scales', [x.shape[0]], [x], null, { rows: x.rows })
  g.call(packRowsKernel, { x, packed, scales }, { rows: x.rows, width: C / 4 }, { constants: { WORKGROUP: rowGroup(g.target, C / 4) } })
  return { packed, scales }
}

/** The rows again. `like`: the tensor they were, which says whether a gradient is wanted. */
export function unpackRows({ packed, scales }: HalfRows, like: Tensor): Tensor {
  const g = like.graph
  const x = g.node('unpacked rows', like.shape, [like], () => [null], { rows: like.rows })
  g.call(unpackRowsKernel, { packed, scales, x }, { len: liveVec4s(x), width: x.cols / 4 })
  return x
}
