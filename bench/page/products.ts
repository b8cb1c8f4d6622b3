/** @file Matrix products: each layer's from the naive kernel to the best, by weight format, and those that every engine can do. */
import { type Bar, barChart } from '../charts.ts'
import type { Row } from '../report.ts'
import { grouped, NONE, number, table, times } from './markdown.ts'
import { isLayer, isPeerProduct, nameOf, type Part, peakOf, rowsOf, toneOf } from './report.ts'

const LAYOUTS = { nt: 'forward', nn: 'gradient of the input', tn: 'gradient of the weight' } as const
const passOf = (r: Row): string => LAYOUTS[r.layout!]

/** What is measured at 256 rows on every adapter; large GPUs are given more as well. */
const atRows = (r: Row): string => (rowsOf(r) === 256 ? '' : `, ${rowsOf(r)} rows`)

/** Features out × in of the layer that a product belongs to. */
function layerOf({ layout, m, n, k }: Row): string {
  if (layout === 'tn') return `${m}×${n}`
  return layout === 'nt' ? `${n}×${k}` : `${k}×${n}`
}

const barText = (rate: number, peak: number): string => `${rate.toFixed(1)} (${((100 * rate) / peak).toFixed(0)} %)`
const peakMark = (peak: number) => ({ value: peak, label: `FMA peak ${peak.toFixed(0)}` })

/** Rate of several products, one after another. */
function together(rows: readonly Row[]): number {
  const ms = rows.reduce((sum, r) => sum + r.ms, 0)
  return rows.reduce((sum, r) => sum + (r.gflops ?? 0) * r.ms, 0) / ms
}

/** The layers' products one after another, by pass, kernel and weight format. */
function layerChart(rows: readonly Row[], peak: number): string | null {
  const products = rows.filter(isLayer)
  if (products.length === 0) return null
  const bars = [...grouped(products, (r) => `${passOf(r)}${atRows(r)}`)].flatMap(([pass, of]) =>
    [...grouped(of, (r) => `${nameOf(r.engine)}, ${r.dtype}`)].map(([label, same], i): Bar => {
      const rate = together(same)
      return {
        label,
        value: rate,
        text: barText(rate, peak),
        tone: toneOf(same[0].engine),
        ...(i === 0 && { heading: `${pass}: ${same.map(layerOf).join(', ')}` }),
      }
    }),
  )
  return barChart('Products of SmolLM2’s layers, GFLOP/s and share of the peak', bars, peakMark(peak))
}

function peerChart(rows: readonly Row[], peak: number): string | null {
  const products = rows.filter(isPeerProduct)
  if (products.length === 0) return null
  const bars = [...grouped(products, shapeOf)].flatMap(([heading, of]) =>
    of.map((r, i): Bar => ({
      label: nameOf(r.engine),
      value: r.gflops!,
      text: barText(r.gflops!, peak),
      tone: toneOf(r.engine),
      ...(i === 0 && { heading }),
    })),
  )
  return barChart('Products of f32 matrices by engine, GFLOP/s and share of the peak', bars, peakMark(peak))
}

const shapeOf = (r: Row): string => `${r.m}×${r.n}, sums of ${r.k}`

/** One line a product: its f32 rungs, and what the last one gains. */
function ladderTable(rows: readonly Row[]): string[] {
  const products = rows.filter((r) => isLayer(r) && r.dtype === 'f32')
  if (products.length === 0) return []
  const matrix = products.some((r) => r.engine === 'etude-matrix') ? ['etude-matrix'] : []
  const rungs = ['naive', 'etude-tile', ...matrix, 'etude']
  const lines = [...grouped(products, (r) => `${layerOf(r)}, ${passOf(r)}${atRows(r)}`)].map(([name, of]) => {
    const [naive, best] = ['naive', 'etude'].map((engine) => of.find((r) => r.engine === engine))
    return [
      name,
      ...rungs.map((engine) => number(of.find((r) => r.engine === engine)?.gflops, 1)),
      number(best?.percent_of_peak),
      times(naive?.ms, best?.ms),
    ]
  })
  return [
    'f32, at 256 rows where nothing else is said, GFLOP/s from the naive kernel over tiles in workgroup memory (what an adapter gets that nothing is known of) to the kernel that is used:',
    '',
    table(['layer (out × in), pass', ...rungs.map(nameOf), '% of peak', '× naive'], lines),
    '',
  ]
}

/** One line a weight format: the kernel that is used, on each product. */
function formatTable(rows: readonly Row[], peak: number): string[] {
  const products = rows.filter((r) => isLayer(r) && r.engine === 'etude' && r.layout !== 'tn')
  return [...grouped(products, (r) => String(rowsOf(r)))].flatMap(([count, of]) => formatsAt(count, of, peak))
}

function formatsAt(count: string, products: readonly Row[], peak: number): string[] {
  const nameIn = (r: Row): string => `${passOf(r)}, ${layerOf(r)}`
  const columns = [...grouped(products, nameIn).keys()].sort()
  const share = (of: readonly Row[]): string => number((100 * together(of)) / peak)
  const lines = [...grouped(products, (r) => r.dtype ?? '')].map(([format, of]) => [
    format,
    ...columns.map((c) => number(of.find((r) => nameIn(r) === c)?.gflops, 1)),
    share(of),
  ])
  return [`At ${count} rows, by what the weight is stored as, GFLOP/s:`, '', table(['format', ...columns, '% of peak, all'], lines), '']
}

/** One line a shape: every engine, and Etude beside the fastest of the others. */
function peerTable(rows: readonly Row[]): string[] {
  const products = rows.filter(isPeerProduct)
  if (products.length === 0) return []
  const engines = [...grouped(products, (r) => r.engine).keys()]
  const lines = [...grouped(products, shapeOf)].map(([shape, of]) => {
    const own = of.find((r) => r.engine === 'etude')
    const others = of.filter((r) => r !== own && r.engine !== 'naive').map((r) => r.ms)
    return [
      shape,
      ...engines.map((e) => number(of.find((r) => r.engine === e)?.gflops, 1)),
      number(own?.percent_of_peak),
      others.length === 0 ? NONE : times(Math.min(...others), own?.ms),
    ]
  })
  return [
    'Shapes of the bench model and a large square, f32, GFLOP/s; the last column is Etude beside the fastest other library:',
    '',
    table(['product', ...engines.map(nameOf), 'Etude, % of peak', '× fastest'], lines),
    '',
  ]
}

export function productsPart({ rows, picture }: Part): string[] {
  const peak = peakOf(rows)
  if (peak === null) return []
  return [
    ...picture('roofline', 'Matmul rates of layers by kernel and weight format', layerChart(rows, peak)),
    ...ladderTable(rows),
    ...formatTable(rows, peak),
    ...picture('matmul', 'Matmul rates by engine', peerChart(rows, peak)),
    ...peerTable(rows),
  ]
}
