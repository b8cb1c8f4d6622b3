/** @file The plan, in sight at every step: memory by class, the run, the device. */
import { MemoryBar } from './components/MemoryBar.tsx'
import { Facts } from './components/parts.tsx'
import { about, bytes, count, duration, group, sig3, stepTime } from './format.ts'
import { deviceName } from './panels/DeviceCard.tsx'
import { activeRun, configOf, epochsOfSteps, methodOf, modelWidth, trainRows } from './store/select.ts'
import { useStudio } from './store/store.ts'
import { methodDefaults, type Optimizer } from '../train/run_config.ts'

const OPTIMIZER_NAMES: Readonly<Record<Optimizer, string>> = {
  adamw: 'AdamW',
  adamw_8bit: 'AdamW in 8 bits',
  adamw_coat: 'AdamW in 8 bits (COAT)',
}

export function PlanAside() {
  const state = useStudio((s) => s)
  const rows = useStudio(trainRows)
  const active = activeRun(state)
  const config = active?.config ?? configOf(state)
  const plan = state.plan.plan
  const device = state.engine.status === 'ready' ? state.engine.device : null
  const run = config?.run ?? methodDefaults(methodOf(state.choices), modelWidth(state))
  const ms = plan?.msPerStep ?? null
  const epochs = rows ? epochsOfSteps(run.steps, rows, run) : null
  return (
    <aside className="side" aria-label="The plan">
      <div>
        <section className="stack">
          <h2>GPU memory, planned</h2>
          {plan ? (
            <>
              <MemoryBar memory={plan.memory} />
              <p className="small soft">
                {plan.refusal ? 'It does not fit this device.' : device ? `Fits. One buffer may have ${bytes(device.maxBufferSize)}.` : ''}
              </p>
            </>
          ) : (
            <p className="soft small">{state.plan.status === 'planning' ? 'Planning.' : 'Shown once a model is loaded.'}</p>
          )}
        </section>
        <section className="stack">
          <h2>{active ? `This run: ${active.name}` : 'The next run'}</h2>
          <Facts
            entries={[
              ['Method', config ? (methodOf({ ...state.choices, method: config.method })?.title ?? config.method) : null],
              ['Batch', `${run.accum > 1 ? `${run.accum} × ` : ''}${run.batch} × ${group(run.seq)} tokens`],
              ['Optimizer', `${OPTIMIZER_NAMES[run.optim]}, ${run.schedule}`],
              ['Learning rate', sig3(run.lr)],
              ['Steps', `${group(run.steps)}${epochs !== null ? ` (${sig3(epochs)} ${epochs === 1 ? 'pass' : 'passes'})` : ''}`],
              ['Seed', String(run.seed)],
              ['Checkpoint', active ? (active.checkpointStep > 0 ? `step ${group(active.checkpointStep)}` : 'none yet') : null],
              ['Time', !active && ms !== null ? about(duration(ms * run.steps)) : null],
            ]}
          />
        </section>
        <section className="stack">
          <h2>Device</h2>
          {device ? (
            <Facts
              entries={[
                ['GPU', deviceName(device)],
                ['16-bit arithmetic', device.f16 ? 'yes' : 'no'],
                ['Largest binding', bytes(device.maxStorageBufferBindingSize)],
                ['Kernel calls a step', plan ? count(plan.dispatches) : null],
                ['Step', ms === null ? null : stepTime(ms)],
              ]}
            />
          ) : (
            <p className="soft small">{state.engine.status === 'starting' ? 'Looking for a GPU.' : 'No GPU.'}</p>
          )}
        </section>
      </div>
    </aside>
  )
}
