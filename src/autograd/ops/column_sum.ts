/** @file Sums over rows: the gradients of everything that is broadcast down the rows (scales, biases, prompts). */
import { columnSumKernel } from '../../kernels/norm.ts'
import { derived, type Dim, isLive, numel, type Shape, type Tensor } from '../../tensor/graph.ts'
import { ceilDim, now } from './live.ts'

/** Rows a lane sums on its own before a second pass adds the chunks up. */
const CHUNK = 64

export interface ColumnSum {
  readonly dy: Tensor
  /** The summand is dy · x. */
  readonly x?: Tensor
  /** f32 [rows, 2] = (mean, 1/σ): the summand is dy · (x - mean)/σ. */
  readonly stats?: Tensor
  /** Shape of the result; its elements are summed side by side. A multiple of 4. */
  readonly shape: Shape
  /** How many rows are summed. Default: dy's. */
  readonly rows?: Dim
  /** Elements from one row to the next. Default: as many as are summed. */
  readonly stride?: Dim
}

/** Σ over rows, added to `into` where given. Two passes where one lane a column would be too serial; always the same order of additions. */
export function columnSum(op: string, s: ColumnSum, into: Tensor | null): Tensor {
  const { dy, x, stats, shape } = s
  const g = dy.graph
  const cols = numel(shape)
  const rows = s.rows ?? dy.rows
  const limit = dy.shape[0]
  const out = into ?? g.node(op, shape, [dy], null, { rows: shape[0] })
  const add = into ? (['add'] as const) : []
  const term = stats ? (['normalized'] as const) : x ? (['x'] as const) : []
  const stride = ceilDim(s.stride ?? cols, 4)
  // A software GPU has few lanes to fill; its cost is the loads, and they are the same either way.
  if (g.target.software || limit <= CHUNK) {
    const whole = isLive(rows) ? derived(() => Math.max(1, rows.value)) : Math.max(1, rows)
    g.call(columnSumKernel, { dy, x, stats, out }, { rows, width: cols / 4, stride, chunk: whole }, { flags: [...term, ...add] })
    return out
  }
  const partial = g.node(`${op} partial`, [Math.ceil(limit / CHUNK), cols], [dy], null, { rows: Math.ceil(limit / CHUNK) })
  g.call(columnSumKernel, { dy, x, stats, out: partial }, { rows, width: cols / 4, stride, chunk: CHUNK }, { flags: term })
  const chunks = isLive(rows) ? derived(() => Math.max(1, Math.ceil(now(rows) / CHUNK))) : Math.max(1, Math.ceil(rows / CHUNK))
  g.call(columnSumKernel, { dy: partial, out }, { rows: chunks, width: cols / 4, stride: cols / 4, chunk: chunks }, { flags: add })
  return out
}
