/** @file Beside the loss chart: its points as a table, and what a compared run did differently. */
import { VirtualTable } from '../components/VirtualTable.tsx'
import { group, loss3, sig3, stepTime } from '../format.ts'
import { configDiff } from '../store/config_diff.ts'
import { pointsOf } from '../store/points.ts'
import type { RunView } from '../store/state.ts'

/** What the two runs on the chart do differently. */
export function Differences({ run, compared }: { run: RunView; compared: RunView }) {
  const differences = configDiff(run.config, compared.config)
  return (
    <p className="small soft" data-testid="chart-differences" style={{ marginTop: 8 }}>
      {differences.length === 0
        ? `Same choices as ${compared.name}.`
        : `${compared.name} had ${differences.map((d) => `${d.name} ${d.b} instead of ${d.a}`).join('; ')}.`}
    </p>
  )
}

/** Every step as a row, newest first. */
export function PointTable({ run }: { run: RunView }) {
  const points = pointsOf(run.runId)
  const evals = new Map(run.evals.map((e) => [e.step, e]))
  return (
    <VirtualTable
      label="Loss by step, newest first"
      testId="chart-table"
      columns={['Step', 'Loss', 'Held-out', 'Learning rate', 'Gradient norm', 'Tokens', 'Time']}
      template="repeat(7, minmax(64px, 1fr))"
      rows={points.length}
      cells={(i) => {
        const r = points.at(points.length - 1 - i)
        if (!r) return []
        const e = evals.get(r.step)
        return [group(r.step), loss3(r.loss), e ? loss3(e.loss) : '', sig3(r.lr), sig3(r.grad_norm), group(r.tokens), stepTime(r.ms)]
      }}
    />
  )
}
