/** @file What can be done with a run now. One action is the primary one: it stands last and is named as what happens next. */
import { Button, Tooltip } from '@mantine/core'
import { Pause, Play, Plus, Sparkles, Square, StepForward } from 'lucide-react'
import type { ReactNode } from 'react'
import { goTo, repeatRun } from '../actions/choose.ts'
import { pause, resume, stepOnce, stop } from '../actions/run.ts'
import type { RunView } from '../store/state.ts'
import { dispatch, useStudio } from '../store/store.ts'

export type Action = 'stop' | 'pause' | 'step' | 'resume' | 'try' | 'new' | 'change'

export interface Facts {
  /** There is a GPU, or it is being looked for. */
  readonly engineReady: boolean
  /** Another model is loaded than the run's. */
  readonly otherModel: boolean
  readonly step: number
}

/** The actions a run allows, the primary one last. Pure. */
export function actionsOf(run: Pick<RunView, 'status' | 'live' | 'checkpointStep' | 'config' | 'error'>, f: Facts): readonly Action[] {
  const more = f.step < run.config.run.steps
  const canGoOn = f.engineReady && !f.otherModel && more && (run.live || run.checkpointStep > 0)
  const kept = run.checkpointStep > 0 || (run.live && f.step > 0)
  switch (run.status) {
    case 'running':
      return ['stop', 'pause']
    case 'paused':
      return canGoOn ? ['stop', 'step', 'resume'] : ['new']
    case 'stopped':
      return [...(canGoOn ? (['resume'] as const) : []), 'new', ...(kept ? (['try'] as const) : [])]
    case 'done':
      return ['new', 'try']
    case 'failed': {
      const rest: readonly Action[] = kept ? ['try'] : []
      // what broke by itself would break again: a change comes first. A GPU that went away is no fault of the run.
      if (run.error?.name === 'GpuError' && canGoOn) return ['new', ...rest, 'resume']
      return [...rest, ...(canGoOn ? (['resume'] as const) : []), 'change']
    }
  }
}

/** What needs the model. */
const MODEL: ReadonlySet<Action> = new Set(['resume', 'step', 'stop'])

/** `waiting`: the run's model is not there yet, as after a reload. */
export function RunControls({ run, facts, waiting }: { run: RunView; facts: Facts; waiting: boolean }) {
  const busy = useStudio((s) => s.busy)
  const actions = actionsOf(run, facts)
  const act = (f: (id: string) => Promise<void>) => () => {
    void f(run.runId)
  }
  const buttons: Readonly<Record<Action, { label: string; icon: ReactNode; testId: string; onClick: () => void; hint?: string }>> = {
    stop: { label: 'Stop and keep', icon: <Square size={14} aria-hidden />, testId: 'stop', onClick: act(stop) },
    pause: { label: 'Pause', icon: <Pause size={16} aria-hidden />, testId: 'pause', onClick: act(pause) },
    step: {
      label: 'Step',
      icon: <StepForward size={16} aria-hidden />,
      testId: 'step-once',
      onClick: act(stepOnce),
      hint: 'One optimizer step, then wait again',
    },
    resume: { label: 'Resume', icon: <Play size={16} aria-hidden />, testId: 'resume', onClick: act(resume) },
    try: {
      label: 'Try the result',
      icon: <Sparkles size={16} aria-hidden />,
      testId: 'try-result',
      onClick: () => {
        goTo('try')
      },
    },
    new: {
      label: 'New run',
      icon: <Plus size={16} aria-hidden />,
      testId: 'new-run',
      onClick: () => {
        dispatch({ type: 'run-shown', runId: null })
      },
    },
    change: {
      label: 'Change and run again',
      icon: <Plus size={16} aria-hidden />,
      testId: 'new-run',
      onClick: () => {
        repeatRun(run)
      },
    },
  }
  return actions.map((action, i) => {
    const { label, icon, testId, onClick, hint } = buttons[action]
    const button = (
      <Button
        key={action}
        variant={i === actions.length - 1 ? 'filled' : 'default'}
        leftSection={icon}
        disabled={busy || (waiting && MODEL.has(action))}
        onClick={onClick}
        data-testid={testId}
      >
        {label}
      </Button>
    )
    return hint ? (
      <Tooltip key={action} label={hint}>
        {button}
      </Tooltip>
    ) : (
      button
    )
  })
}
