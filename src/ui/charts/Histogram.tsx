/** @file Row lengths in tokens as bars, with the line where rows are cut. Bars beyond the line are hatched as well as coloured. */
import type { CutStats, LengthStats } from '../../data/report.ts'
import { group } from '../format.ts'

const W = 420
const H = 230
const LEFT = 8
const RIGHT = 12
const TOP = 22
const BOTTOM = 24

export function Histogram({ lengths, cut: { seq: cut, truncated } }: { lengths: LengthStats; cut: Pick<CutStats, 'seq' | 'truncated'> }) {
  const { bins, binWidth } = lengths
  const end = Math.max(bins.length * binWidth, cut * 1.04)
  const most = Math.max(1, ...bins)
  const x = (tokens: number): number => LEFT + (tokens / end) * (W - LEFT - RIGHT)
  const y = (n: number): number => H - BOTTOM - (n / most) * (H - TOP - BOTTOM)
  const ticks = niceTicks(end, 4)
  // a row of exactly the cut's length is whole, and may share a bar with longer ones
  const lost = (i: number): boolean => truncated > 0 && i * binWidth >= cut
  const line = x(truncated > 0 ? cut : Math.max(cut, bins.findLastIndex((n) => n > 0) * binWidth + binWidth))
  const label = `Row lengths: half have ${lengths.p50} tokens or fewer, the longest has ${lengths.max}; rows are cut at ${cut}, ${truncated} are longer.`
  return (
    <figure>
      <svg viewBox={`0 0 ${W} ${H}`} width="100%" role="img" aria-label={label} data-testid="histogram">
        <defs>
          <pattern id="beyond" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <rect width="6" height="6" fill="var(--eval-soft)" />
            <rect width="3" height="6" fill="var(--eval)" />
          </pattern>
        </defs>
        <line x1={LEFT} x2={W - RIGHT} y1={H - BOTTOM + 0.5} y2={H - BOTTOM + 0.5} stroke="var(--line)" />
        {bins.map((n, i) => {
          const from = x(i * binWidth)
          const width = Math.max(1, x((i + 1) * binWidth) - from - 1)
          return n > 0 ? (
            <rect
              key={i}
              x={from}
              y={y(n)}
              width={width}
              height={H - BOTTOM - y(n)}
              rx={Math.min(2, width / 3)}
              fill={lost(i) ? 'url(#beyond)' : 'var(--accent)'}
              opacity={lost(i) ? 1 : 0.62}
            >
              <title>{`${i * binWidth} to ${(i + 1) * binWidth - 1} tokens: ${group(n)} rows`}</title>
            </rect>
          ) : null
        })}
        {ticks.map((t) => (
          <text key={t} x={x(t)} y={H - 7} fontSize="11" fill="var(--soft)" textAnchor={t === 0 ? 'start' : 'middle'}>
            {group(t)}
          </text>
        ))}
        <line x1={line} x2={line} y1={8} y2={H - BOTTOM} stroke="var(--bad)" strokeWidth="1.5" strokeDasharray="4 3" />
        <text x={line + (cut / end > 0.7 ? -5 : 5)} y={16} fontSize="11" fill="var(--bad)" textAnchor={cut / end > 0.7 ? 'end' : 'start'}>
          cut at {group(cut)}
        </text>
      </svg>
    </figure>
  )
}

/** About n round numbers from 0 to end. Pure. */
export function niceTicks(end: number, n: number): number[] {
  const rough = end / n
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? rough
  const whole = Math.max(1, Math.round(step))
  return Array.from({ length: Math.floor(end / whole) + 1 }, (_, i) => i * whole)
}
