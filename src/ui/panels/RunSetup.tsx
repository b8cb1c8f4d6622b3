/** @file The next run before it starts: how long, what it costs in memory and time, what is watched on the way. */
import { Button, Checkbox, SegmentedControl, TextInput } from '@mantine/core'
import { Play, StepForward, Timer } from 'lucide-react'
import { useEffect, useState } from 'react'
import { methodDefaults, RUN_OPTIONS } from '../../train/run_config.ts'
import { set, setExtra, setInvalid, setLength, setRunOption } from '../actions/choose.ts'
import { probe } from '../actions/plan.ts'
import { freshName, start } from '../actions/run.ts'
import { startFromAdapter } from '../actions/try.ts'
import { cancelWork } from '../actions/work.ts'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { MemoryBar } from '../components/MemoryBar.tsx'
import { OptionField, OptionsForm } from '../components/OptionsForm.tsx'
import { Card, Facts, PageHead } from '../components/parts.tsx'
import { Working } from '../components/Working.tsx'
import { EXTRA_OPTIONS } from '../extras.ts'
import { about, bytes, count, duration, group, sig3, stepTime } from '../format.ts'
import { changedNames, configOf, epochsOfSteps, methodOf, obstacle, trainRows } from '../store/select.ts'
import { useStudio } from '../store/store.ts'
import { PlanProblem } from './PlanProblem.tsx'
import { Policies } from './Policies.tsx'
import { Prompts } from './Prompts.tsx'

export function RunSetup() {
  const state = useStudio((s) => s)
  const blocked = obstacle(state) !== null || state.busy
  const config = configOf(state)
  const method = methodOf(state.choices)
  const { info } = state.model
  const { summary } = state.data
  const adapter = state.trying.source?.kind === 'adapter' ? state.trying.source : null
  const running = state.runs.find((r) => r.live && (r.status === 'running' || r.status === 'paused'))
  const placeholder = summary ? freshName({ runs: state.runs, choices: { ...state.choices, runName: null } }, summary.name) : ''
  return (
    <>
      <PageHead
        title="Train"
        actions={
          <>
            <Button
              leftSection={<StepForward size={16} aria-hidden />}
              disabled={blocked}
              onClick={() => void start(true)}
              data-testid="start-paused"
            >
              Start paused
            </Button>
            <Button
              variant="filled"
              leftSection={<Play size={16} aria-hidden />}
              disabled={blocked}

              onClick={() => void start()}
              data-testid="start"
            >
              Start training
            </Button>
          </>
        }
      >
        {info && summary && method ? (
          <>
            {method.title} on {info.name}, with {summary.name}.{state.plan.status === 'probing' && ' A step is measured first, see below.'}
          </>
        ) : (
          'The plan first: what it needs, how long it takes, whether it fits.'
        )}
      </PageHead>
      {state.runError && <ErrorCard error={state.runError} />}
      <PlanProblem all />
      {running?.status === 'paused' && (
        <p className="note">“{running.name}” is paused. Starting a new run sets it aside; it can be resumed from the list below.</p>
      )}
      {config && (
        <>
          <PlanCard />
          <LengthAndTime />
        </>
      )}
      <Card title="On the way" aside={<span className="soft small wide-only">the run goes on when this page is in the background</span>}>
        <div className="stack" style={{ gap: 18 }}>
          <OptionsForm
            options={EXTRA_OPTIONS}
            values={state.choices.extras}
            changed={changedNames(EXTRA_OPTIONS, state.choices.extras)}
            prefix="extra"
            onChange={setExtra}
            onInvalid={(name, why) => {
              setInvalid(`extra.${name}`, why)
            }}
          />
          <Prompts />
          <div className="form">
            <TextInput
              label="Name of the run"
              placeholder={placeholder}
              value={state.choices.runName ?? ''}
              onChange={(e) => {
                set({ runName: e.currentTarget.value || null })
              }}
              data-testid="run-name"
            />
          </div>
          {adapter && (
            <Checkbox
              label={`Start from the loaded adapter “${adapter.name}” (${adapter.method})`}
              checked={state.trying.startFromAdapter}
              onChange={(e) => {
                startFromAdapter(e.currentTarget.checked)
              }}
              data-testid="from-adapter"
            />
          )}
        </div>
      </Card>
    </>
  )
}

/** Steps or epochs, and what follows from them: tokens, passes, time. */
function LengthAndTime() {
  const state = useStudio((s) => s)
  const config = configOf(state)
  const rows = useStudio(trainRows)
  const { choices, plan, engine, data, work } = state
  const fits = obstacle(state) === null
  const known = plan.plan?.msPerStep ?? null
  // on hardware a probe is over in a moment; on a software device it is asked for
  const auto = fits && plan.measures && known === null && plan.status === 'ready' && engine.status === 'ready' && !engine.device.software
  useEffect(() => {
    if (auto) void probe()
  }, [auto])
  if (!config) return null
  const { run } = config
  const epochs = rows === null ? null : epochsOfSteps(run.steps, rows, run)
  const perStep = plan.plan?.tokensPerStep ?? null
  const trainable = data.cut && data.cut.totalTokens > 0 ? data.cut.trainableTokens / data.cut.totalTokens : null
  return (
    <Card
      title="Length"
      aside={
        <SegmentedControl
          aria-label="Length is given in"
          value={choices.length.unit}
          data={[
            { value: 'steps', label: 'Steps' },
            { value: 'epochs', label: 'Epochs' },
          ]}
          onChange={(unit) => {
            setLength({ unit: unit })
          }}
          data-testid="length-unit"
        />
      }
    >
      <div className="two" style={{ gap: 28 }}>
        <div className="stack" style={{ gap: 16 }}>
          {choices.length.unit === 'steps' ? (
            <OptionField
              name="steps"
              option={RUN_OPTIONS.steps}
              value={run.steps}
              changed={changedNames(
                { steps: RUN_OPTIONS.steps },
                { steps: run.steps },
                { steps: methodDefaults(methodOf(choices), null).steps },
              )}
              prefix="run"
              onChange={setRunOption}
              onInvalid={(name, why) => {
                setInvalid(`run.${name}`, why)
              }}
            />
          ) : (
            <EpochsField />
          )}
          {plan.status === 'probing' ? (
            <Working label="Measuring a step" progress={work} onCancel={cancelWork} />
          ) : (
            <div>
              <Button
                size="xs"
                leftSection={<Timer size={14} aria-hidden />}
                disabled={!fits || plan.status !== 'ready'}
                onClick={() => void probe()}
                data-testid="probe"
              >
                {known === null ? 'Measure a step' : 'Measure again'}
              </Button>
            </div>
          )}
        </div>
        <Facts
          entries={[
            ['Steps', choices.length.unit === 'steps' ? null : group(run.steps)],
            ['Passes over the data', epochs === null ? null : `${run.pack ? 'about ' : ''}${sig3(epochs)}`],
            ['Rows a step', run.accum > 1 ? `${run.batch} × ${run.accum}` : group(run.batch)],
            ['Tokens a step, at most', perStep === null ? null : count(perStep)],
            ['Tokens in all, at most', perStep === null ? null : count(perStep * run.steps)],
            ['Trained of these', trainable === null ? null : `about ${Math.round(trainable * 100)}\u00a0%`],
            ['Time of a step', known === null ? 'not measured yet' : stepTime(known)],
            ['Time in all', known === null ? null : <b key="time">{about(duration(known * run.steps))}</b>],
          ]}
        />
      </div>
    </Card>
  )
}

function EpochsField() {
  const epochs = useStudio((s) => s.choices.length.epochs)
  const [draft, setDraft] = useState<string | null>(null)
  const parse = (text: string): number | null => {
    const v = Number(text)
    return text.trim() !== '' && Number.isFinite(v) && v > 0 && v <= 10_000 ? v : null
  }
  const bad = draft !== null && parse(draft) === null
  return (
    <TextInput
      label="Epochs"
      description="Passes over the training rows; parts of one are fine."
      inputMode="decimal"
      value={draft ?? String(epochs)}
      error={bad ? `expected a number above 0, up to 10,000. ${epochs} stays in use.` : undefined}
      inputWrapperOrder={['label', 'input', 'error', 'description']}
      onChange={(e) => {
        const text = e.currentTarget.value
        setDraft(text)
        const value = parse(text)
        if (value !== null) setLength({ epochs: value })
      }}
      onBlur={() => {
        if (!bad) setDraft(null)
      }}
      data-testid="run-epochs"
    />
  )
}

/** Bytes by class with what each holds, and the limits they are held against. */
function PlanCard() {
  const plan = useStudio((s) => s.plan)
  const engine = useStudio((s) => s.engine)
  const device = engine.status === 'ready' ? engine.device : null
  return (
    <Card title="GPU memory, planned" aside={plan.status === 'planning' && <span className="soft small">planning</span>}>
      {plan.plan ? (
        <MemoryBar memory={plan.plan.memory} explain>
          <div className="stack" data-testid="plan">
            <Facts
              entries={[
                ['Trained values', count(plan.plan.trainable)],
                ['Adapter file', bytes(plan.plan.adapterBytes)],
                [
                  'Kernel calls a step',
                  `${group(plan.plan.dispatches)} in ${group(plan.plan.submits)} ${plan.plan.submits === 1 ? 'submit' : 'submits'}`,
                ],
                ['Largest buffer allowed', device ? bytes(device.maxBufferSize) : null],
                ['Largest binding allowed', device ? bytes(device.maxStorageBufferBindingSize) : null],
              ]}
            />
            <p className="small soft">These are the buffers that will be created, to the byte.</p>
            <Policies plan={plan.plan} />
          </div>
        </MemoryBar>
      ) : (
        <p className="soft">{plan.status === 'planning' ? 'Planning the step.' : 'There is no plan yet.'}</p>
      )}
    </Card>
  )
}
