/** @file Charts as SVG text, for the results page: bars beside each other, and lines over logarithmic axes. Readable on light and dark pages; no script, no font of their own. */

const STYLE = `<style>
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 14px } .soft { fill: #656d76 } .end { text-anchor: end } .middle { text-anchor: middle }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .mark { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 4 3 } .markText { fill: #bc4c00 }
  .s0 { fill: #0969da; stroke: #0969da } .s1 { fill: #8250df; stroke: #8250df } .s2 { fill: #1a7f37; stroke: #1a7f37 } .s3 { fill: #9a6700; stroke: #9a6700 } .s4 { fill: #818b98; stroke: #818b98 } .s5 { fill: #bf3989; stroke: #bf3989 }
  .inside { fill: #ffffff } .bar { stroke: none } polyline { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #3d444d } .mark { stroke: #f0883e } .markText { fill: #f0883e }
    .s0 { fill: #4493f8; stroke: #4493f8 } .s1 { fill: #ab7df8; stroke: #ab7df8 } .s2 { fill: #3fb950; stroke: #3fb950 } .s3 { fill: #d29922; stroke: #d29922 } .s4 { fill: #6e7681; stroke: #6e7681 } .s5 { fill: #db61a2; stroke: #db61a2 }
    .inside { fill: #0d1117 } polyline { fill: none }
  }
</style>`

const escape = (text: string): string => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c] ?? c)
const n = (x: number): string => String(Math.round(x * 10) / 10)
const text = (x: number, y: number, content: string, classes = ''): string =>
  `<text x="${n(x)}" y="${n(y)}"${classes && ` class="${classes}"`}>${escape(content)}</text>`

function svg(width: number, height: number, title: string, body: readonly string[]): string {
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${n(height)}" width="${width}" height="${n(height)}" role="img" aria-label="${escape(title)}">`
  return [head, STYLE, text(0, 16, title, 'title'), ...body, '</svg>', ''].join('\n')
}

export interface Bar {
  readonly label: string
  readonly value: number
  /** Written at its end. */
  readonly text: string
  /** Colour, 0 to 5. */
  readonly tone: number
  /** A gap and this heading come before it. */
  readonly heading?: string
}
/** Text after a bar that ends at `x`, or at its end where it would lie across the mark. Letters are about 6.5 wide. */
function endText(content: string, x: number, mark: number | null, y: number): string {
  const crosses = mark !== null && mark > x && mark < x + 10 + 6.5 * content.length
  return crosses ? text(x - 6, y, content, 'inside end') : text(x + 6, y, content, 'soft')
}

/** Horizontal bars from 0. @param mark a value that all are held against, drawn as a line. */
export function barChart(
  title: string,
  bars: readonly Bar[],
  mark: { readonly value: number; readonly label: string } | null = null,
): string {
  const [width, left, right, step] = [760, 190, 150, 20]
  const most = Math.max(...bars.map((b) => b.value), mark?.value ?? 0)
  const x = (value: number): number => left + ((width - left - right) * value) / most
  const body: string[] = []
  let y = mark ? 46 : 30
  const top = y
  for (const b of bars) {
    if (b.heading !== undefined) {
      y += 22
      body.push(text(0, y - 6, b.heading, 'soft'))
    }
    body.push(text(left - 8, y + 13, b.label, 'end'))
    body.push(
      `<rect x="${left}" y="${y + 2}" width="${n(Math.max(1, x(b.value) - left))}" height="${step - 5}" rx="2" class="bar s${b.tone}"/>`,
    )
    body.push(endText(b.text, x(b.value), mark && x(mark.value), y + 13))
    y += step
  }
  if (mark) {
    body.push(`<line x1="${n(x(mark.value))}" y1="${top - 6}" x2="${n(x(mark.value))}" y2="${y}" class="mark"/>`)
    body.push(text(x(mark.value), top - 11, mark.label, 'end markText'))
  }
  return svg(width, y + 8, title, body)
}

export interface Line {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
  readonly tone: number
}
export interface Axis {
  readonly label: string
  readonly log: boolean
}
/** Round values between two: about five even steps of 1, 2 or 5 times a power of ten. */
function evenTicks(from: number, to: number): number[] {
  const least = (to - from) / 6 || 1
  const power = 10 ** Math.floor(Math.log10(least))
  const step = power * ([1, 2, 5].find((x) => x * power >= least) ?? 10)
  const first = Math.ceil(from / step)
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, i) => (first + i) * step)
}
/** Values on an axis to which lines are drawn: on a logarithmic one every doubling, or every few, unless there are too few of them. */
function ticks(from: number, to: number, log: boolean): number[] {
  if (!log || to / from < 4) return evenTicks(from, to)
  const first = Math.ceil(Math.log2(from))
  const every = Math.ceil((Math.log2(to) - first) / 8) || 1
  return Array.from({ length: Math.floor((Math.log2(to) - first) / every) + 1 }, (_, i) => 2 ** (first + i * every))
}

/** Lines with a dot at each point; every y axis that is not logarithmic begins where the data does. */
export function lineChart(title: string, lines: readonly Line[], xAxis: Axis, yAxis: Axis): string {
  const [width, height, left, right, top, bottom] = [760, 336, 64, 150, 48, 44]
  const all = lines.flatMap((l) => l.points)
  const range = (at: 0 | 1): [number, number] => [Math.min(...all.map((p) => p[at])), Math.max(...all.map((p) => p[at]))]
  const scale = ([from, to]: [number, number], log: boolean, a: number, b: number) => {
    const f = (v: number): number => (log ? Math.log2(v) : v)
    const span = f(to) - f(from) || 1
    return (v: number): number => a + ((b - a) * (f(v) - f(from))) / span
  }
  const [xs, ys] = [range(0), range(1)]
  const x = scale(xs, xAxis.log, left, width - right)
  const y = scale(ys, yAxis.log, height - bottom, top)
  const body: string[] = []
  const [xTicks, yTicks] = [ticks(...xs, xAxis.log), ticks(...ys, yAxis.log)]
  const label = (v: number, all: readonly number[]): string => v.toFixed(all.every(Number.isInteger) ? 0 : v >= 10 ? 1 : 2)
  for (const t of yTicks) {
    body.push(`<line x1="${left}" y1="${n(y(t))}" x2="${width - right}" y2="${n(y(t))}" class="grid"/>`)
    body.push(text(left - 8, y(t) + 4, label(t, yTicks), 'soft end'))
  }
  for (const t of xTicks) body.push(text(x(t), height - bottom + 18, label(t, xTicks), 'soft middle'))
  body.push(text((left + width - right) / 2, height - 8, xAxis.label, 'soft middle'))
  body.push(text(left - 8, top - 12, yAxis.label, 'soft end'))
  lines.forEach(({ name, points, tone }, i) => {
    body.push(`<polyline points="${points.map(([a, b]) => `${n(x(a))},${n(y(b))}`).join(' ')}" class="s${tone}" style="fill:none"/>`)
    for (const [a, b] of points) body.push(`<circle cx="${n(x(a))}" cy="${n(y(b))}" r="3" class="s${tone}"/>`)
    body.push(`<rect x="${width - right + 12}" y="${top + i * 20}" width="10" height="10" class="bar s${tone}"/>`)
    body.push(text(width - right + 28, top + 9 + i * 20, name))
  })
  return svg(width, height, title, body)
}
