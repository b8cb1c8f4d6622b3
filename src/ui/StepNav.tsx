/** @file The five steps, each with one line that says what was chosen. */
import { Check, CircleAlert } from 'lucide-react'
import type { ReactNode } from 'react'
import { goTo } from './actions/choose.ts'
import { timeLeft } from './charts/series.ts'
import { bytes, count, duration, group, loss3, percent, plural } from './format.ts'
import { activeRun, currentRun, methodOf, obstacle, optionValues } from './store/select.ts'
import { STEP_IDS, type StepId, type StudioState } from './store/state.ts'
import { useStudio } from './store/store.ts'
import { usePoints } from './store/use_points.ts'

const TITLES: Readonly<Record<StepId, string>> = { model: 'Model', data: 'Data', method: 'Method', train: 'Train', try: 'Try and export' }
const SHORT: Readonly<Partial<Record<StepId, string>>> = { try: 'Try' }

interface Line {
  readonly text: string
  readonly state: 'todo' | 'done' | 'failed'
}

function modelLine({ model }: StudioState): Line {
  if (model.status === 'loading') {
    const p = model.progress
    return { text: p && p.total > 0 ? `loading, ${percent(p.done, p.total)}` : 'loading', state: 'todo' }
  }
  if (model.info) return { text: `${model.info.name} · ${count(model.info.parameters)}, ${bytes(model.info.fileBytes)}`, state: 'done' }
  return model.status === 'failed' ? { text: 'did not load', state: 'failed' } : { text: 'none yet', state: 'todo' }
}

function dataLine({ data }: StudioState): Line {
  if (data.status === 'reading') return { text: 'reading', state: 'todo' }
  if (data.summary) {
    const { name, stats } = data.summary
    const aside = stats.rows - stats.usable
    return { text: `${plural(stats.usable, 'row')}${aside > 0 ? `, ${group(aside)} set aside` : ''} · ${name}`, state: 'done' }
  }
  return data.status === 'failed' ? { text: 'could not be used', state: 'failed' } : { text: 'none yet', state: 'todo' }
}

function methodLine({ choices, plan, model }: StudioState): Line {
  const method = methodOf(choices)
  if (!method) return { text: 'none', state: 'todo' }
  const r = optionValues(method, choices).r
  const rank = typeof r === 'number' ? ` r ${r}` : ''
  const p = plan.plan
  return {
    text: `${method.title}${rank}${p ? ` · ${count(p.trainable)} (${percent(p.trainable, model.info?.parameters ?? 0)})` : ''}`,
    state: 'done',
  }
}

export function StepNav() {
  const state = useStudio((s) => s)
  const run = activeRun(state) ?? currentRun(state)
  const points = usePoints(run?.runId ?? null)
  const trainLine = (): Line => {
    const last = points.last()
    if (!run) {
      const found = obstacle(state)
      if (state.plan.plan?.refusal) return { text: 'does not fit', state: 'failed' }
      return {
        text: found ? (state.engine.status === 'ready' ? `waits for the ${found.at}` : 'needs a GPU') : 'ready when you are',
        state: 'todo',
      }
    }
    const left = run.status === 'running' ? timeLeft(points, run.config.run.steps) : null
    const figures = last ? `step ${group(last.step)} of ${group(run.config.run.steps)} · loss ${loss3(last.loss)}` : 'starting'
    if (run.status === 'failed') return { text: `failed at step ${group(last?.step ?? 0)}`, state: 'failed' }
    if (run.status === 'running')
      return { text: `${figures}${left !== null && Number.isFinite(left) ? ` · ${duration(left)} left` : ''}`, state: 'done' }
    return { text: run.status === 'paused' ? `paused · ${figures}` : figures, state: run.status === 'paused' ? 'todo' : 'done' }
  }
  const lines: Readonly<Record<StepId, Line>> = {
    model: modelLine(state),
    data: dataLine(state),
    method: methodLine(state),
    train: trainLine(),
    try: { text: 'base and tuned, side by side', state: state.exporting.result ? 'done' : 'todo' },
  }
  return (
    <nav className="steps" aria-label="Steps">
      {STEP_IDS.map((id, i) => (
        <button
          key={id}
          type="button"
          className="step"
          data-testid={`step-${id}`}
          data-state={lines[id].state}
          aria-current={state.choices.step === id ? 'step' : undefined}
          onClick={() => {
            goTo(id)
          }}
        >
          <span className="num" aria-hidden>
            {mark(lines[id].state, state.choices.step === id, i + 1)}
          </span>
          <span style={{ minWidth: 0 }}>
            <b>
              {SHORT[id] ? (
                <>
                  <span className="wide-only-inline">{TITLES[id]}</span>
                  <span className="narrow-only-inline">{SHORT[id]}</span>
                </>
              ) : (
                TITLES[id]
              )}
            </b>
            <small title={lines[id].text}>{lines[id].text}</small>
          </span>
        </button>
      ))}
    </nav>
  )
}

function mark(state: Line['state'], current: boolean, n: number): ReactNode {
  if (state === 'failed') return <CircleAlert size={14} />
  return state === 'done' && !current ? <Check size={14} strokeWidth={2.6} /> : n
}
