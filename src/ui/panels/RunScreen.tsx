/** @file A run: its controls, its figures, its curve, its samples. */
import { timeLeft } from '../charts/series.ts'
import { cancelWork } from '../actions/work.ts'
import { LossChart } from '../charts/LossChart.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { Card, PageHead } from '../components/parts.tsx'
import { Working } from '../components/Working.tsx'
import { duration, group, loss3, percent } from '../format.ts'
import { bestEval } from '../store/reduce.ts'
import { pointsOf } from '../store/points.ts'
import type { RunView } from '../store/state.ts'
import { useStudio } from '../store/store.ts'
import { usePoints } from '../store/use_points.ts'
import { RunControls } from './RunControls.tsx'
import { RunStats } from './RunStats.tsx'
import { SamplesTable } from './SamplesTable.tsx'

export const STATUS_WORDS = {
  running: 'Training',
  paused: 'Paused',
  stopped: 'Stopped and kept',
  done: 'Finished',
  failed: 'Failed',
} as const

export function RunScreen({ run }: { run: RunView }) {
  const error = useStudio((s) => s.runError)
  const fingerprint = useStudio((s) => s.model.info?.fingerprint ?? null)
  const engineReady = useStudio((s) => s.engine.status === 'ready' || s.engine.status === 'starting')
  const runs = useStudio((s) => s.runs)
  const work = useStudio((s) => (s.plan.status === 'probing' ? null : s.work))
  const points = usePoints(run.runId)
  const step = Math.max(points.last()?.step ?? 0, run.step)
  const total = run.config.run.steps
  const otherModel = !run.live && fingerprint !== null && fingerprint !== run.modelFingerprint
  const others = runs.filter((r) => r.runId !== run.runId && pointsOf(r.runId).length > 0)
  const left = run.status === 'running' ? timeLeft(points, total) : null
  const best = bestEval(run.evals)
  return (
    <>
      <PageHead
        title={run.name}
        actions={<RunControls run={run} facts={{ engineReady, otherModel, step }} waiting={!run.live && fingerprint === null} />}
      >
        <span data-testid="status" data-status={run.status} role="status">
          {work ? 'Preparing' : run.status === 'running' && step === 0 ? 'Looking at the untouched model first' : STATUS_WORDS[run.status]}
        </span>
        {' · '}step <span data-testid="step">{group(step)}</span> of {group(total)}
        {left !== null && Number.isFinite(left) && (
          <>
            {' · '}
            <span data-testid="eta">{duration(left)} left</span>
          </>
        )}
        {best && ` · best held-out loss ${loss3(best.loss)} at step ${group(best.step)}`}
      </PageHead>
      <div
        className="live-bar"
        role="progressbar"
        aria-label="Progress of the run"
        aria-valuemin={0}
        aria-valuemax={total}
        aria-valuenow={step}
        aria-valuetext={percent(step, total)}
      >
        <i style={{ width: `${Math.min(100, (100 * step) / total)}%` }} />
      </div>
      {work && (
        <Card>
          <Working label="Preparing the run" progress={work} onCancel={cancelWork} />
        </Card>
      )}
      {error && <ErrorCard error={error} />}
      {run.error && (
        <ErrorCard error={run.error}>
          <span className="small soft">
            The curve up to step {group(step)} is kept.{' '}
            {run.checkpointStep > 0
              ? `The adapter of step ${group(run.checkpointStep)} is kept too and can be tried, exported or resumed.`
              : 'No checkpoint had been stored yet.'}
          </span>
        </ErrorCard>
      )}
      {otherModel && <p className="note">This run belongs to {run.modelName}. Load that model to resume or try it.</p>}
      <RunStats run={run} />
      <LossChart run={run} others={others} />
      <SamplesTable run={run} />
    </>
  )
}
