/** @file Step 3: which method, from the registry, with what it trains here; its options and the run's, rendered from their declarations. */
import { Anchor, Button } from '@mantine/core'
import { ArrowRight, ExternalLink, RotateCcw } from 'lucide-react'
import { methodDefaults, RUN_OPTIONS } from '../../train/run_config.ts'
import { chooseMethod, goTo, resetOptions, setInvalid, setOption, setRunOption } from '../actions/choose.ts'
import { OptionsForm } from '../components/OptionsForm.tsx'
import { Card, PageHead, Tag } from '../components/parts.tsx'
import { bytes, count, percent } from '../format.ts'
import { METHODS, type MethodDeclaration } from '../methods.ts'
import { changedNames, isRunning, methodOf, modelWidth, optionValues, runValues, trainRows } from '../store/select.ts'
import { useStudio } from '../store/store.ts'
import { PlanProblem } from './PlanProblem.tsx'

/** Length belongs to the Train step, where its consequence is shown; the frozen weights' form to the model. */
const { steps: _steps, base: _base, ...HOW_TO_TRAIN } = RUN_OPTIONS

export function MethodPanel() {
  const choices = useStudio((s) => s.choices)
  const rows = useStudio(trainRows)
  const info = useStudio((s) => s.model.info)
  const width = useStudio(modelWidth)
  const running = useStudio(isRunning)
  const method = methodOf(choices)
  if (!method) return <PageHead title="Method">No method is registered.</PageHead>
  const values = optionValues(method, choices)
  const run = runValues(method, choices, rows, width)
  const changed = changedNames(method.options, values)
  const changedRun = changedNames(HOW_TO_TRAIN, run, methodDefaults(method, width))
  return (
    <>
      <PageHead
        title="Method"
        actions={
          <Button variant="filled" rightSection={<ArrowRight size={16} aria-hidden />} onClick={() => goTo('train')} data-testid="next">
            Continue to training
          </Button>
        }
      >
        {METHODS.size} methods. {info ? `Figures are for ${info.name}, at these options.` : 'Load a model to see what each would train.'}
      </PageHead>
      {running && <p className="note">A run is under way. What is changed here is for the next one.</p>}
      <PlanProblem />
      <div className="card methods" role="radiogroup" aria-label="Method">
        <div className="method soft small wide-only" aria-hidden style={{ paddingBlock: 8 }}>
          <span />
          <span>Method</span>
          <span>Trained</span>
          <span>GPU memory</span>
          <span>Merges</span>
        </div>
        {[...METHODS.values()].map((m) => (
          <MethodRow key={m.id} method={m} checked={m.id === method.id} />
        ))}
      </div>
      <Card
        title={`${method.title} options`}
        aside={
          (changed.size > 0 || changedRun.size > 0) && (
            <Button
              size="compact-sm"
              variant="subtle"
              color="gray"
              leftSection={<RotateCcw size={13} aria-hidden />}
              onClick={resetOptions}
              data-testid="reset-options"
            >
              Back to the defaults
            </Button>
          )
        }
      >
        {Object.keys(method.options).length === 0 ? (
          <p className="soft">It has no options of its own.</p>
        ) : (
          <OptionsForm
            key={method.id}
            options={method.options}
            values={values}
            changed={changed}
            prefix="option"
            suggestions={info?.linears}
            onChange={setOption}
            onInvalid={(name, why) => {
              setInvalid(`${method.id}.${name}`, why)
            }}
          />
        )}
      </Card>
      <Card title="How to train" aside={<span className="soft small">the learning rate is this method’s own</span>}>
        <OptionsForm
          key={method.id}
          options={HOW_TO_TRAIN}
          values={run}
          changed={changedRun}
          prefix="run"
          onChange={setRunOption}
          onInvalid={(name, why) => {
            setInvalid(`run.${name}`, why)
          }}
        />
      </Card>
    </>
  )
}

function MethodRow({ method: m, checked }: { method: MethodDeclaration; checked: boolean }) {
  const plan = useStudio((s) => s.plan.byMethod[m.id])
  const parameters = useStudio((s) => s.model.info?.parameters ?? 0)
  return (
    <label className="method">
      <input
        type="radio"
        name="method"
        value={m.id}
        checked={checked}
        data-testid={`method-${m.id}`}
        onChange={() => {
          chooseMethod(m.id)
        }}
      />
      <div style={{ minWidth: 0 }}>
        <div className="row" style={{ gap: 8 }}>
          <b>{m.title}</b>
          {plan?.refusal && <Tag tone="bad">does not fit</Tag>}
        </div>
        <small>
          {m.summary}{' '}
          <Anchor href={m.paper.url} target="_blank" rel="noreferrer" fz="inherit" style={{ whiteSpace: 'nowrap' }}>
            {m.paper.cite}
            <ExternalLink size={11} aria-label="(opens a new tab)" style={{ marginLeft: 3, verticalAlign: -1 }} />
          </Anchor>
        </small>
      </div>
      <span className="figure">
        {plan ? count(plan.trainable) : '–'}
        {plan && (
          <small style={{ display: 'block' }}>
            {percent(plan.trainable, parameters)} · {bytes(plan.adapterBytes)}
          </small>
        )}
      </span>
      <span className="figure">{plan ? bytes(plan.memory.total) : '–'}</span>
      <span>{m.merges ? <Tag tone="good">yes</Tag> : <Tag>no</Tag>}</span>
    </label>
  )
}
