/** @file A run: its controls, its figures, its curve, its samples. */
import { Button, Tooltip } from '@mantine/core'
import { Pause, Play, Plus, Sparkles, Square, StepForward } from 'lucide-react'
import { pause, resume, stepOnce, stop } from '../actions/run.ts'
import { timeLeft } from '../charts/series.ts'
import { LossChart } from '../charts/LossChart.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { PageHead } from '../components/parts.tsx'
import { duration, group, loss3, percent } from '../format.ts'
import { bestEval } from '../store/reduce.ts'
import { pointsOf } from '../store/points.ts'
import type { RunView } from '../store/state.ts'
import { dispatch, useStudio } from '../store/store.ts'
import { usePoints } from '../store/use_points.ts'
import { RunStats } from './RunStats.tsx'
import { SamplesTable } from './SamplesTable.tsx'

export const STATUS_WORDS = {
  running: 'Training',
  paused: 'Paused',
  stopped: 'Stopped and kept',
  done: 'Finished',
  failed: 'Failed',
} as const

export function RunScreen({ run, onTry }: { run: RunView; onTry: () => void }) {
  const busy = useStudio((s) => s.busy)
  const error = useStudio((s) => s.runError)
  const fingerprint = useStudio((s) => s.model.info?.fingerprint ?? null)
  const engineReady = useStudio((s) => s.engine.status === 'ready')
  const runs = useStudio((s) => s.runs)
  const points = usePoints(run.runId)
  const step = Math.max(points.last()?.step ?? 0, run.step)
  const total = run.config.run.steps
  const otherModel = !run.live && fingerprint !== null && fingerprint !== run.modelFingerprint
  const others = runs.filter((r) => r.runId !== run.runId && pointsOf(r.runId).length > 0)
  const canGoOn = engineReady && !otherModel && step < total && (run.live || run.checkpointStep > 0 || run.status === 'paused')
  const resumable = canGoOn && (run.status === 'paused' || run.status === 'stopped' || (run.status === 'failed' && run.checkpointStep > 0))
  const act = (f: (id: string) => Promise<void>) => (): void => {
    void f(run.runId)
  }
  const newRun = (
    <Button
      leftSection={<Plus size={16} aria-hidden />}
      onClick={() => {
        dispatch({ type: 'run-shown', runId: null })
      }}
      data-testid="new-run"
    >
      New run
    </Button>
  )
  return (
    <>
      <PageHead
        title={run.name}
        actions={
          run.status === 'running' ? (
            <>
              <Button leftSection={<Square size={14} aria-hidden />} disabled={busy} onClick={act(stop)} data-testid="stop">
                Stop and keep
              </Button>
              <Button
                variant="filled"
                leftSection={<Pause size={16} aria-hidden />}
                disabled={busy}
                onClick={act(pause)}
                data-testid="pause"
              >
                Pause
              </Button>
            </>
          ) : resumable ? (
            <>
              {run.status === 'paused' ? (
                <>
                  <Button leftSection={<Square size={14} aria-hidden />} disabled={busy} onClick={act(stop)} data-testid="stop">
                    Stop and keep
                  </Button>
                  <Tooltip label="One optimizer step, then wait again">
                    <Button
                      leftSection={<StepForward size={16} aria-hidden />}
                      disabled={busy}
                      onClick={act(stepOnce)}
                      data-testid="step-once"
                    >
                      Step
                    </Button>
                  </Tooltip>
                </>
              ) : (
                <>
                  {newRun}
                  {run.checkpointStep > 0 && <Button onClick={onTry}>Try the result</Button>}
                </>
              )}
              <Button
                variant="filled"
                leftSection={<Play size={16} aria-hidden />}
                disabled={busy}
                onClick={act(resume)}
                data-testid="resume"
              >
                Resume
              </Button>
            </>
          ) : (
            <>
              {newRun}
              {run.status !== 'failed' || run.checkpointStep > 0 ? (
                <Button variant="filled" leftSection={<Sparkles size={16} aria-hidden />} onClick={onTry} data-testid="try-result">
                  Try the result
                </Button>
              ) : null}
            </>
          )
        }
      >
        <span data-testid="status" data-status={run.status} role="status">
          {STATUS_WORDS[run.status]}
        </span>
        {' · '}step <span data-testid="step">{group(step)}</span> of {group(total)}
        <Subtitle run={run} left={run.status === 'running' ? timeLeft(points, total) : null} />
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
      {otherModel && step < total && <p className="note">This run belongs to {run.modelName}. Load that model to resume or try it.</p>}
      <RunStats run={run} />
      <LossChart run={run} others={others} />
      <SamplesTable run={run} />
    </>
  )
}

function Subtitle({ run, left }: { run: RunView; left: number | null }) {
  const best = bestEval(run.evals)
  return (
    <>
      {left !== null && Number.isFinite(left) && (
        <>
          {' · '}
          <span data-testid="eta">{duration(left)} left</span>
        </>
      )}
      {best && (
        <>
          {' · '}best held-out loss {loss3(best.loss)} at step {group(best.step)}
        </>
      )}
      {run.status === 'running' && <span className="wide-only"> · the page may go to the background</span>}
    </>
  )
}
