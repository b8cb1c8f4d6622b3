/** @file The loss chart's drawing, in terms of uPlot: series, axes, log scale, and a PNG of it. Colours come from the page's tokens. */
import uPlot from 'uplot'
import type { EvalRecord } from '../../train/run_config.ts'
import { group } from '../format.ts'
import type { PointSeries } from './series.ts'

export interface Look {
  readonly log: boolean
  /** Steps of the whole run: the axis shows what is still to come. */
  readonly steps: number
}

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/** Columns for uPlot: step, raw loss, smoothed loss, held-out loss, the earlier run's loss. Steps of evaluations that no point has get rows of their own. */
export function alignedData(points: PointSeries, evals: readonly EvalRecord[], other: PointSeries | null): uPlot.AlignedData {
  const own: uPlot.AlignedData = [points.column('step'), points.column('loss'), points.smoothed()]
  const tables: uPlot.AlignedData[] = [own, [evals.map((e) => e.step), evals.map((e) => e.loss)]]
  tables.push(other && other.length > 0 ? [other.column('step'), other.smoothed()] : [[], []])
  return uPlot.join(tables)
}

/** Room around the lowest and highest loss in view; null where there is none yet. Losses are not negative, and a log scale has no 0. */
export function lossRange(lo: number | null, hi: number | null, log: boolean): [number, number] {
  if (lo === null || hi === null || !Number.isFinite(lo) || !Number.isFinite(hi)) return log ? [0.1, 10] : [0, 1]
  if (log) return [Math.max(lo, 1e-6) / 1.08, Math.max(hi, 1e-6) * 1.08]
  const pad = (hi - lo || Math.abs(hi) || 1) * 0.06
  return [lo >= 0 ? Math.max(0, lo - pad) : lo - pad, hi + pad]
}

export interface Hover {
  readonly step: number
  readonly raw: number | null
  readonly smoothed: number | null
  readonly held: number | null
  readonly other: number | null
}

export function options(
  look: Look,
  width: number,
  height: number,
  onHover: (h: Hover | null) => void,
  onZoom: (zoomed: boolean) => void,
): uPlot.Options {
  const axis = { stroke: css('--soft'), font: `12px ${css('--sans')}`, ticks: { show: false }, grid: { stroke: css('--line'), width: 1 } }
  const bridge: uPlot.Series['spanGaps'] = true
  return {
    width,
    height,
    legend: { show: false },
    padding: [10, 12, 0, 0],
    cursor: { drag: { x: true, y: false, setScale: true }, points: { size: 7 }, y: false },
    scales: {
      x: { time: false, range: (u, lo, hi) => (zoomed(u) ? [lo, hi] : [0, Math.max(look.steps, hi || 1)]) },
      // uPlot declares the kinds of scale as a const enum, which isolated modules cannot read: 1 is linear, 3 logarithmic
      y: Object.assign<uPlot.Scale, object>({ range: (_, lo, hi) => lossRange(lo, hi, look.log) }, { distr: look.log ? 3 : 1 }),
    },
    axes: [
      { ...axis, grid: { show: false }, size: 30, values: (_, ticks) => ticks.map((t) => (Number.isInteger(t) ? group(t) : '')) },
      {
        ...axis,
        size: 44,
        values: (_, ticks, _axis, _space, step) => ticks.map((t: number | null) => tickText(t, look.log, step)),
      },
    ],
    series: [
      {},
      { label: 'each step', stroke: css('--raw'), width: 1, points: { show: false }, spanGaps: bridge },
      { label: 'smoothed', stroke: css('--accent'), width: 2.25, points: { show: false }, spanGaps: bridge },
      {
        label: 'held-out',
        stroke: css('--eval'),
        width: 1,
        dash: [3, 4],
        points: { show: true, size: 9, fill: css('--eval'), stroke: css('--panel'), width: 1.5 },
        spanGaps: bridge,
      },
      { label: 'compared run', stroke: css('--mem-optimizer'), width: 1.5, dash: [7, 4], points: { show: false }, spanGaps: bridge },
    ],
    hooks: {
      drawClear: [
        (u) => {
          shadeAhead(u, look.steps)
        },
      ],
      setCursor: [
        (u) => {
          onHover(hoverOf(u))
        },
      ],
      setScale: [
        (u, key) => {
          if (key === 'x') onZoom(zoomed(u))
        },
      ],
    },
  }
}

/** A loss on the axis, with as many decimals as its neighbours need. uPlot leaves out ticks of a log axis by null. */
const tickText = (t: number | null, log: boolean, step: number): string =>
  t === null ? '' : log ? String(Number(t.toPrecision(2))) : t.toFixed(Math.max(0, Math.ceil(-Math.log10(step))))

const zoomedPlots = new WeakSet<uPlot>()
const zoomed = (u: uPlot): boolean => zoomedPlots.has(u)
/** Show steps [lo, hi], or all of them for null. */
export function zoomTo(u: uPlot, range: readonly [number, number] | null): void {
  if (range) zoomedPlots.add(u)
  else zoomedPlots.delete(u)
  const x = u.data[0]
  u.setScale('x', range ? { min: range[0], max: range[1] } : { min: x[0] ?? 0, max: x.at(-1) ?? 1 })
}
export const markZoomed = (u: uPlot): void => {
  zoomedPlots.add(u)
}

/** A quiet ground under the steps to come. */
function shadeAhead(u: uPlot, steps: number): void {
  const last = u.data[0].at(-1)
  if (last === undefined || last >= steps) return
  const { left, top, width, height } = u.bbox
  const x = Math.max(left, u.valToPos(last, 'x', true))
  if (x >= left + width) return
  u.ctx.save()
  u.ctx.fillStyle = css('--sunk')
  u.ctx.globalAlpha = 0.6
  u.ctx.fillRect(x, top, left + width - x, height)
  u.ctx.restore()
}

function hoverOf(u: uPlot): Hover | null {
  const i = u.cursor.idx
  const step = i === null || i === undefined ? undefined : u.data[0][i]
  if (i === null || i === undefined || step === undefined) return null
  const at = (series: number): number | null => u.data[series]?.[i] ?? null
  return { step, raw: at(1), smoothed: at(2), held: at(3), other: at(4) }
}

/** The chart with a title line and the page's ground behind it. */
export function pngOf(u: uPlot, title: string): Promise<Blob | null> {
  const source = u.ctx.canvas
  const ratio = source.width / u.width
  const margin = Math.round(16 * ratio)
  const head = Math.round(34 * ratio)
  const canvas = document.createElement('canvas')
  canvas.width = source.width + 2 * margin
  canvas.height = source.height + head + 2 * margin
  const ctx = canvas.getContext('2d')
  if (!ctx) return Promise.resolve(null)
  ctx.fillStyle = css('--panel')
  ctx.fillRect(0, 0, canvas.width, canvas.height)
  ctx.fillStyle = css('--ink')
  ctx.font = `600 ${Math.round(14 * ratio)}px ${css('--sans')}`
  ctx.fillText(title, margin, margin + Math.round(14 * ratio), canvas.width - 2 * margin)
  ctx.drawImage(source, margin, margin + head)
  return new Promise((resolve) => {
    canvas.toBlob(resolve, 'image/png')
  })
}
