/** @file The loss as it comes: raw, smoothed and held-out, zoom and log scale, values under the pointer or the arrow keys, a table, PNG and CSV.
 * Points are read from the point store and drawn at most every FRAME ms; React renders only the controls and the values line. */
import { Button, SegmentedControl, Select, useComputedColorScheme } from '@mantine/core'
import { ZoomIn, ZoomOut } from 'lucide-react'
import { useEffect, useEffectEvent, useRef, useState } from 'react'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { Card } from '../components/parts.tsx'
import { group, loss3 } from '../format.ts'
import { bestEval } from '../store/reduce.ts'
import { pointsOf } from '../store/points.ts'
import type { RunView } from '../store/state.ts'
import { csvOf, download } from './export.ts'
import { Differences, PointTable } from './PointTable.tsx'
import { alignedData, markZoomed, options, pngOf, zoomTo, type Hover } from './uplot.ts'

/** Least time between two drawings, in ms. */
const FRAME = 120
const HEIGHT = 300

export function LossChart({ run, others }: { run: RunView; others: readonly RunView[] }) {
  const [log, setLog] = useState('linear')
  const [table, setTable] = useState(false)
  const [zoomed, setZoomed] = useState(false)
  const [hover, setHover] = useState<Hover | null>(null)
  const [compare, setCompare] = useState<string | null>(null)
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const scheme = useComputedColorScheme('light')
  const points = pointsOf(run.runId)
  const compared = others.find((r) => r.runId === compare) ?? null
  const other = compared ? pointsOf(compared.runId) : null

  const draw = useEffectEvent(() => {
    plot.current?.setData(alignedData(points, run.evals, other), !zoomed)
    if (!zoomed) plot.current?.redraw()
  })

  // a plot per run, scale and theme: uPlot takes its options once
  useEffect(() => {
    const node = box.current
    if (!node) return
    const make = options({ log: log === 'log', steps: run.config.run.steps }, node.clientWidth, HEIGHT, setHover, setZoomed)
    const u = new uPlot(make, [[], [], [], [], []] as unknown as uPlot.AlignedData, node)
    plot.current = u
    // a drag is what zooms: it is marked before uPlot asks for the range
    const over = u.over
    const mark = (): void => {
      if (u.select.width > 0) markZoomed(u)
    }
    const unzoom = (): void => {
      zoomTo(u, null)
    }
    over.addEventListener('mouseup', mark, { capture: true })
    over.addEventListener('dblclick', unzoom)
    draw()
    const resize = new ResizeObserver(() => {
      u.setSize({ width: node.clientWidth, height: HEIGHT })
    })
    resize.observe(node)
    return () => {
      resize.disconnect()
      u.destroy()
      plot.current = null
      setZoomed(false)
      setHover(null)
    }
  }, [run.runId, run.config.run.steps, log, scheme])

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const later = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined
        draw()
      }, FRAME)
    }
    const stop = points.subscribe(later)
    return () => {
      stop()
      clearTimeout(timer)
    }
  }, [points])

  useEffect(() => {
    draw()
  }, [run.evals, other])

  const u = (): uPlot | null => plot.current
  const zoomBy = (factor: number): void => {
    const p = u()
    const last = points.last()?.step
    if (!p || last === undefined) return
    const min = p.scales.x?.min ?? 0
    const max = Math.min(p.scales.x?.max ?? last, factor < 1 && !zoomed ? last : Infinity)
    const width = Math.max(4, (max - min) * factor)
    // zoom towards the newest steps: that is where one looks
    if (factor > 1 && (width >= run.config.run.steps || max - width <= 0)) zoomTo(p, null)
    else zoomTo(p, [Math.max(0, max - width), max])
  }
  const keys = (e: React.KeyboardEvent): void => {
    const p = u()
    if (!p) return
    const n = p.data[0].length
    const at = p.cursor.idx ?? n - 1
    const go = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: n - 1, PageUp: at - 20, PageDown: at + 20 }[e.key]
    if (go !== undefined && n > 0) {
      e.preventDefault()
      const i = Math.min(n - 1, Math.max(0, go))
      p.setCursor({ left: p.valToPos(p.data[0][i] ?? 0, 'x'), top: 10 })
    } else if (e.key === '+' || e.key === '=') zoomBy(0.5)
    else if (e.key === '-') zoomBy(2)
    else if (e.key === '0') zoomTo(p, null)
  }
  const file = (ending: string): string => `${run.name.replace(/[^\w.-]+/g, '-')}-loss.${ending}`
  const best = bestEval(run.evals)

  return (
    <Card
      title="Loss"
      aside={
        <>
          <SegmentedControl
            aria-label="Loss scale"
            value={log}
            onChange={setLog}
            data={[
              { value: 'linear', label: 'Linear' },
              { value: 'log', label: 'Log' },
            ]}
            data-testid="chart-scale"
          />
          <Button.Group>
            <Button
              size="xs"
              aria-label="Zoom in on the newest steps"
              onClick={() => {
                zoomBy(0.5)
              }}
              data-testid="zoom-in"
            >
              <ZoomIn size={14} aria-hidden />
            </Button>
            <Button
              size="xs"
              aria-label="Zoom out"
              disabled={!zoomed}
              onClick={() => {
                zoomBy(2)
              }}
              data-testid="zoom-out"
            >
              <ZoomOut size={14} aria-hidden />
            </Button>
          </Button.Group>
          <Button.Group>
            <Button
              size="xs"
              aria-pressed={table}
              variant={table ? 'light' : 'default'}
              onClick={() => {
                setTable(!table)
              }}
              data-testid="chart-table-toggle"
            >
              Table
            </Button>
            <Button
              size="xs"
              onClick={() => {
                download(new Blob([csvOf(points, run.evals)], { type: 'text/csv' }), file('csv'))
              }}
              data-testid="chart-csv"
            >
              CSV
            </Button>
            <Button
              size="xs"
              data-testid="chart-png"
              onClick={() => {
                const p = u()
                if (p)
                  void pngOf(p, `${run.name}: loss by step`).then((blob) => {
                    if (blob) download(blob, file('png'))
                  })
              }}
            >
              PNG
            </Button>
          </Button.Group>
        </>
      }
    >
      <div className="row" style={{ marginBottom: 6, minHeight: 24, gap: '4px 16px' }} data-testid="chart-values" aria-live="off">
        {hover && (
          <span className="key">
            step <b>{group(hover.step)}</b>
          </span>
        )}
        <Key mark="line" color="var(--accent)" name="smoothed" value={hover?.smoothed} />
        <Key mark="thin" color="var(--raw)" name="each step" value={hover?.raw} />
        <Key mark="dot" color="var(--eval)" name="held-out" value={hover?.held} />
        {other && <Key mark="dash" color="var(--mem-optimizer)" name="compared" value={hover?.other} />}
        <span className="grow" />
        {others.length > 0 && (
          <Select
            size="xs"
            w={190}
            clearable
            placeholder="Compare with a run"
            aria-label="Compare with an earlier run"
            data={others.map((r) => ({ value: r.runId, label: r.name }))}
            value={compare}
            onChange={setCompare}
            data-testid="chart-compare"
          />
        )}
      </div>
      <div
        ref={box}
        className="chart"
        role="img"
        tabIndex={0}
        onKeyDown={keys}
        data-testid="chart"
        data-points={run.step}
        aria-label={`Loss by step, ${group(run.step)} of ${group(run.config.run.steps)} steps.${best ? ` Best held-out loss ${loss3(best.loss)} at step ${group(best.step)}.` : ''} Arrow keys read values, plus and minus zoom, 0 shows all. The table has the same figures.`}
      />
      {compared && <Differences run={run} compared={compared} />}
      {table && (
        <div style={{ marginTop: 12 }}>
          <PointTable run={run} />
        </div>
      )}
    </Card>
  )
}

function Key({
  mark,
  color,
  name,
  value,
}: {
  mark: 'line' | 'thin' | 'dot' | 'dash'
  color: string
  name: string
  value: number | null | undefined
}) {
  return (
    <span className="key">
      <svg width="16" height="10" aria-hidden>
        {mark === 'dot' ? (
          <circle cx="8" cy="5" r="4" fill={color} />
        ) : (
          <line
            x1="1"
            x2="15"
            y1="5"
            y2="5"
            stroke={color}
            strokeWidth={mark === 'line' ? 2.5 : 1.5}
            strokeDasharray={mark === 'dash' ? '5 3' : undefined}
          />
        )}
      </svg>
      {name}
      {value !== null && value !== undefined && <b style={{ color: 'var(--ink)' }}>{loss3(value)}</b>}
    </span>
  )
}
