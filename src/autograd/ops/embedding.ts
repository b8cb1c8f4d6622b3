/** @file Rows of a table by id: token embeddings in any weight format, a trainable prompt before each sequence, and rows of activations. */
import { fillKernel, gatherKernel, scatterAddKernel } from '../../kernels/gather.ts'
import { isPacked, tableStep, weightBytes, weightFlag, weightOffset } from '../../kernels/weight_formats.ts'
import { derived, type Dim, isLive, type Shape, ShapeError, type Tensor, times, type Vjp } from '../../tensor/graph.ts'
import type { Weight, WeightPart } from '../../tensor/weight.ts'
import { columnSum } from './column_sum.ts'
import { now, requireVec4 } from './live.ts'

/** Which rows of the output are a prompt's. */
interface Prompting {
  readonly prompt: Tensor
  readonly rows: number
  readonly tokens: Dim
}
interface Lookup {
  readonly scale?: number
  /** Added to each id, modulo 2³². */
  readonly offset?: number
  readonly prompting?: Prompting | null
  /** An id whose row gets no gradient from here. */
  readonly skip?: number | null
}
const view = (t: Tensor, shape: Shape, bytes: number): Tensor =>
  t.graph.leaf(t.storage!, shape, { dtype: t.dtype, byteOffset: t.byteOffset + bytes })

/** A table in pieces that each fit a binding. Multiples of 256 rows keep every view's offset a multiple of 256 bytes. */
export function tableChunks({ format, rows, cols, data, scales, parts }: Weight): readonly WeightPart[] {
  if (parts) return parts
  const limit = data.graph.target.maxBindingSize
  if (weightBytes(format, rows, cols).data <= limit || !data.storage) return [{ first: 0, rows, data, scales }]
  if (format === 'nf4') throw new ShapeError('table', 'nf4 in one piece', [rows, cols])
  const step = tableStep(format, cols, limit)
  const out: WeightPart[] = []
  for (let first = 0; first < rows; first += step) {
    const n = Math.min(step, rows - first)
    const bytes = weightBytes(format, n, cols)
    const at = weightOffset(format, first * cols)
    out.push({
      first,
      rows: n,
      data: view(data, format === 'f32' ? [n, cols] : [bytes.data / 4], at.data),
      scales: scales && view(scales, [bytes.scales / 4], at.scales),
    })
  }
  return out
}

/** out = rows of the table; ids that name no row of it give zeros. */
function gather(table: Weight, ids: Tensor, out: Tensor, o: Lookup = {}): void {
  const { prompting = null, scale = 1, offset = 0 } = o
  tableChunks(table).forEach(({ first, rows, data, scales }, i) => {
    out.graph.call(
      gatherKernel,
      { ids, w: data, scales, prompt: prompting?.prompt, out },
      {
        rows: out.rows,
        width: table.cols / 4,
        first: (first - offset) >>> 0,
        table_rows: rows,
        prompt_rows: prompting?.rows ?? 0,
        tokens: prompting?.tokens ?? 1,
        scale,
      },
      { flags: [weightFlag(table.format), ...(prompting ? (['prompt'] as const) : []), ...(i === 0 ? (['zero'] as const) : [])] },
    )
  })
}

/** Gradient of the table: dy's rows added where their ids say. */
function scatterAdd(table: Weight, ids: Tensor, count: Dim, dy: Tensor, into: Tensor | null, o: Lookup): Tensor {
  const g = dy.graph
  const width = table.cols / 4
  const out = into ?? g.node('embed dweight', [table.rows, table.cols], [dy], null, { rows: table.rows })
  if (!into) g.call(fillKernel, { out }, { len: table.rows * width, value: 0 })
  const { prompting = null, scale = 1, offset = 0, skip = null } = o
  for (const { first, rows, data } of tableChunks({ ...table, data: out }))
    g.call(
      scatterAddKernel,
      { ids, dy, out: data },
      // Buckets are for GPUs that would stand idle with a lane per column only.
      {
        count,
        width,
        first: (first - offset) >>> 0,
        table_rows: rows,
        prompt_rows: prompting?.rows ?? 0,
        tokens: prompting?.tokens ?? 1,
        scale,
        buckets: g.target.software ? 1 : 64,
        skip: skip ?? 0xffffffff,
      },
    )
  return out
}

function requireTable(op: string, { cols, data, scales, format }: Weight, ids: Tensor): void {
  if (ids.dtype !== 'u32') throw new ShapeError(op, `u32 ids (they are ${ids.dtype})`, ids.shape)
  requireVec4(op, [cols])
  if ((scales !== null) !== isPacked(format))
    throw new ShapeError(op, `scales exactly for packed formats (the format is ${format})`, data.shape)
  if (scales && cols % 32) throw new ShapeError(op, 'columns in blocks of 32 for a quantised table', [cols])
}

/** scale · weight[ids + offset]. weight: [V, C] in any format, trainable if f32; C a multiple of 4. ids: u32 [M], below V - offset (others give zeros).
 * `skip`: an id whose row learns nothing from being looked up, as torch's padding_idx.
 * `rows`: how many ids count. Returns [M, C]. */
export function embed(weight: Weight, ids: Tensor, rows: Dim, o: Omit<Lookup, 'prompting'> = {}): Tensor {
  requireTable('embed', weight, ids)
  const out = ids.graph.node(
    'embed',
    [ids.shape[0], weight.cols],
    [weight.data],
    (dy) => [(into) => scatterAdd(weight, ids, rows, dy, into, o)],
    { rows },
  )
  gather(weight, ids, out, o)
  return out
}

/** A trainable prompt before each sequence's embeddings: row b (P + T) + t is prompt[t] for t < P, else weight[ids[b T + t - P]].
 * Lester et al. 2021, https://arxiv.org/abs/2104.08691. ids: u32 [B T]; prompt: [P, C]. `batch` and `tokens` are B and T; where B is live, `maxBatch`
 * is its largest value. `scale`: factor on the embeddings, not on the prompt. Returns [B (P + T), C]. */
export function embedWithPrompt(
  weight: Weight,
  ids: Tensor,
  prompt: Tensor,
  o: { batch: Dim; tokens: Dim; maxBatch?: number; scale?: number },
): Tensor {
  requireTable('embed_with_prompt', weight, ids)
  const [P, C] = [prompt.shape[0], weight.cols]
  const { batch, tokens, scale = 1 } = o
  const maxBatch = o.maxBatch ?? (isLive(batch) ? null : batch)
  if (maxBatch === null) throw new ShapeError('embed_with_prompt', 'maxBatch where the batch is live', ids.shape)
  if (prompt.cols !== C || prompt.shape.length !== 2) throw new ShapeError('embed_with_prompt', `a prompt [P, ${C}]`, prompt.shape)
  const live = isLive(batch) || isLive(tokens)
  const length = isLive(tokens) ? derived(() => P + tokens.value) : P + tokens
  const rows: Dim = live ? derived(() => now(batch) * now(length)) : now(batch) * now(length)
  const count: Dim = live ? derived(() => now(batch) * now(tokens)) : now(batch) * now(tokens)
  const prompting = { prompt, rows: P, tokens }
  const vjp: Vjp = (dy) => [
    (into) => columnSum('prompt grad', { dy, shape: [P, C], rows: batch, stride: times(length, C) }, into),
    (into) => scatterAdd(weight, ids, count, dy, into, { prompting, scale }),
  ]
  const out = ids.graph.node('embed_with_prompt', [ids.shape[0] + maxBatch * P, C], [prompt, weight.data], vjp, { rows })
  gather(weight, ids, out, { prompting, scale })
  return out
}

/** x[index]: rows of activations, each at most once. x: [M, C], C a multiple of 4; index: u32 [n], of which `count` are live. `inverse`: u32 [M], row of
 * the result that each row of x went to, 0xffffffff for none: with it the gradient is a gather as well, and rows not chosen get 0. Returns [n, C]. */
export function gatherRows(x: Tensor, index: Tensor, count: Dim, inverse: Tensor): Tensor {
  const g = x.graph
  const [M, C] = [x.shape[0], x.cols]
  requireVec4('gather_rows', x.shape)
  if (inverse.shape[0] !== M || index.dtype !== 'u32' || inverse.dtype !== 'u32')
    throw new ShapeError('gather_rows', 'u32 index [n] and inverse [M]', index.shape, inverse.shape)
  const none = { first: 0, width: C / 4, prompt_rows: 0, tokens: 1, scale: 1 }
  const out = g.node(
    'gather_rows',
    [index.shape[0], C],
    [x],
    (dy) => [
      (into) => {
        const dx = into ?? g.node('gather_rows dx', x.shape, [x], null)
        g.call(
          gatherKernel,
          { ids: inverse, w: dy, out: dx },
          { ...none, rows: x.rows, table_rows: count },
          { flags: ['w_f32', into ? 'add' : 'zero'] },
        )
        return dx
      },
    ],
    { rows: count },
  )
  g.call(gatherKernel, { ids: index, w: x, out }, { ...none, rows: count, table_rows: x.rows }, { flags: ['w_f32', 'zero'] })
  return out
}
