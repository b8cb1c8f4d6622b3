/** @file The figures of a run as they stand: loss, held-out, rate, gradient, speed, memory. */
import { tokensPerSecond } from '../charts/series.ts'
import { bytes, change, count, loss3, sig3, stepTime } from '../format.ts'
import { useStudio } from '../store/store.ts'
import type { RunView } from '../store/state.ts'
import { usePoints } from '../store/use_points.ts'

/** Steps over which the change of the loss is told. */
const BACK = 20

export function RunStats({ run }: { run: RunView }) {
  const points = usePoints(run.runId)
  const planned = useStudio((s) => s.plan.byMethod[run.config.method]?.memory.total ?? null)
  const last = points.last()
  const smoothed = points.smoothed()
  const now = smoothed.at(-1)
  const then = smoothed.at(-1 - BACK)
  const held = run.evals.at(-1)
  const speed = tokensPerSecond(points)
  const { schedule, clip } = run.config.run
  return (
    <dl className="stats">
      <Stat
        name="Loss"
        testId="loss"
        value={last && loss3(last.loss)}
        note={now !== undefined && then !== undefined ? `${change(now - then) || 'level'} in ${BACK} steps` : null}
      />
      <Stat
        name="Held-out"
        testId="eval-loss"
        value={held && loss3(held.loss)}
        note={held ? `perplexity ${sig3(held.perplexity)}` : null}
      />
      <Stat name="Learning rate" testId="lr" value={last && sig3(last.lr)} note={schedule} />
      <Stat
        name="Gradient norm"
        testId="grad-norm"
        value={last && sig3(last.grad_norm)}
        note={clip > 0 ? `clipped at ${sig3(clip)}` : 'not clipped'}
      />
      <Stat
        name="Trained tokens a second"
        testId="speed"
        value={speed === null ? undefined : count(Math.round(speed))}
        note={last ? `${stepTime(last.ms)} a step` : null}
        noteId="step-ms"
      />
      <Stat
        name="GPU memory"
        testId="allocated"
        value={run.allocatedBytes > 0 ? bytes(run.allocatedBytes) : undefined}
        note={planned !== null ? `${bytes(planned)} planned` : null}
      />
    </dl>
  )
}

interface StatProps {
  readonly name: string
  readonly testId: string
  readonly value: string | undefined
  readonly note: string | null
  readonly noteId?: string
}
const Stat = ({ name, testId, value, note, noteId }: StatProps) => (
  <div>
    <dt>{name}</dt>
    <dd data-testid={testId}>{value ?? '–'}</dd>
    <dd className="small soft" data-testid={noteId}>
      {note ?? '\u00a0'}
    </dd>
  </div>
)
