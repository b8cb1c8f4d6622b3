/** @file Ops on the columns of a matrix: a factor or a shift for each, blocks of them side by side, a block of them. */
import { columnsKernel, copyColumnsKernel } from '../../kernels/columns.ts'
import { type Dim, type GradThunk, numel, ShapeError, type Tensor } from '../../tensor/graph.ts'
import { columnSum } from './column_sum.ts'
import { liveVec4s, requireVec4 } from './live.ts'

function broadcast(x: Tensor, c: Tensor, out: Tensor, flags: readonly ('plus' | 'add')[]): Tensor {
  x.graph.call(columnsKernel, { x, c, out }, { len: liveVec4s(x), width: x.cols / 4 }, { flags })
  return out
}
function requireColumns(op: string, x: Tensor, c: Tensor): void {
  if (numel(c.shape) !== x.cols) throw new ShapeError(op, 'x [M, N] and one value a column [N]', x.shape, c.shape)
  requireVec4(op, x.shape)
}

/** x · c, one factor a column. x: [M, N], c: [N], N a multiple of 4. */
export function mulColumns(x: Tensor, c: Tensor): Tensor {
  const g = x.graph
  requireColumns('mul_columns', x, c)
  const out = g.node('mul_columns', x.shape, [x, c], (dy) => [
    (into) => broadcast(dy, c, into ?? g.node('mul_columns dx', x.shape, [x], null), into ? ['add'] : []),
    (into) => columnSum('mul_columns dc', { dy, x, shape: c.shape }, into),
  ])
  return broadcast(x, c, out, [])
}

/** x + b, one shift a column. x: [M, N], b: [N], N a multiple of 4. */
export function addBias(x: Tensor, b: Tensor): Tensor {
  requireColumns('add_bias', x, b)
  const out = x.graph.node('add_bias', x.shape, [x, b], (dy) => [
    () => dy,
    (into) => columnSum('add_bias db', { dy, shape: b.shape }, into),
  ])
  return broadcast(x, b, out, ['plus'])
}

interface Move {
  readonly rows: Dim
  readonly cols: number
  readonly from: number
  readonly to: number
}
function copyColumns(x: Tensor, out: Tensor, { rows, cols, from, to }: Move, mode: 'zero' | 'add' | null): Tensor {
  const width = mode === 'zero' ? out.cols : cols
  const sizes = [width, cols, from, x.cols, to, out.cols]
  const vec4 = sizes.every((n) => n % 4 === 0)
  const [w, c, xf, xs, of, os] = sizes.map((n) => (vec4 ? n / 4 : n)) as [number, number, number, number, number, number]
  x.graph.call(
    copyColumnsKernel,
    { x, out },
    { rows, width: w, cols: c, x_from: xf, x_stride: xs, out_from: of, out_stride: os },
    { flags: [...(vec4 ? (['vec4'] as const) : []), ...(mode ? [mode] : [])] },
  )
  return out
}

/** Columns from … from + n - 1 of x [M, N]; returns [M, n]. */
export function sliceColumns(x: Tensor, from: number, n: number): Tensor {
  const g = x.graph
  const rows = x.rows
  if (x.shape.length !== 2 || from < 0 || n < 1 || from + n > x.cols)
    throw new ShapeError('slice_columns', `a matrix with columns ${from} … ${from + n - 1}`, x.shape)
  const out = g.node('slice_columns', [x.shape[0], n], [x], (dy) => [
    (into) =>
      into
        ? copyColumns(dy, into, { rows, cols: n, from: 0, to: from }, 'add')
        : copyColumns(dy, g.node('slice_columns dx', x.shape, [x], null), { rows, cols: n, from: 0, to: from }, 'zero'),
  ])
  return copyColumns(x, out, { rows, cols: n, from, to: 0 }, null)
}

/** Matrices of equal row count side by side: [M, N₁], [M, N₂], … → [M, N₁ + N₂ + …]. */
export function concatColumns(xs: readonly Tensor[]): Tensor {
  const first = xs[0]
  if (!first || xs.some((x) => x.shape.length !== 2 || x.shape[0] !== first.shape[0]))
    throw new ShapeError('concat_columns', 'matrices of equal row count', ...xs.map((x) => x.shape))
  const g = first.graph
  const rows = first.rows
  const total = xs.reduce((n, x) => n + x.cols, 0)
  const parts = xs.map((x, i) => ({ x, at: xs.slice(0, i).reduce((n, y) => n + y.cols, 0) }))
  const out = g.node('concat_columns', [first.shape[0], total], xs, (dy) =>
    parts.map(({ x, at }): GradThunk => (into) => {
      const dx = into ?? g.node('concat_columns dx', x.shape, [x], null)
      return copyColumns(dy, dx, { rows, cols: x.cols, from: at, to: 0 }, into ? 'add' : null)
    }),
  )
  for (const { x, at } of parts) copyColumns(x, out, { rows, cols: x.cols, from: 0, to: at }, null)
  return out
}
