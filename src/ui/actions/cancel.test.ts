/** Calling off what loads weights, over an engine that only behaves: the page is as it was before it was asked for. */
import { beforeEach, expect, test, vi } from 'vitest'
import type { TokenRows } from '../../data/types.ts'
import type { DatasetSummary } from '../../data/report.ts'
import { EngineClient } from '../../worker/client.ts'
import type { DeviceInfo, ModelInfo, RunPlan } from '../../worker/protocol.ts'
import { connect, engine, type DataService } from '../services.ts'
import { INITIAL, type StudioState } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'
import { FAKE, FakeEngine } from '../testing/fake_engine.ts'
import { viewOf } from '../store/reduce.ts'
import { setRunOption } from './choose.ts'
import { deleteDownload, listDownloads } from './downloads.ts'
import { probe, watchPlan } from './plan.ts'
import { held, listenToEngine, resume, start } from './run.ts'
import { generateBoth, stopGenerating } from './try.ts'
import { cancelWork } from './work.ts'

const rows = (): TokenRows => ({ ids: new Int32Array(4), labels: new Int32Array(4), offsets: Uint32Array.of(0, 4) })
const READY: StudioState = {
  ...INITIAL,
  choices: { ...INITIAL.choices, runName: 'mine', prompt: 'Once', sharedRun: { batch: 3 } },
  engine: { status: 'ready', device: {} as DeviceInfo },
  model: { ...INITIAL.model, status: 'ready', info: { name: 'm', fingerprint: 'f', chatTemplate: null } as unknown as ModelInfo },
  data: {
    ...INITIAL.data,
    status: 'ready',
    summary: { name: 'd', files: [], stats: { train: 9, trainableTokens: 9 } } as unknown as DatasetSummary,
  },
  plan: { ...INITIAL.plan, status: 'ready', plan: { refusal: null, msPerStep: null } as RunPlan },
}
/** Weights are on their way. */
const underWay = () => vi.waitFor(() => expect(store.getState().work?.done).toBeGreaterThan(0))

let stop: () => void
beforeEach(() => {
  stop?.()
  connect({
    engine: new EngineClient(new FakeEngine({ ...FAKE, loadMs: 600, stepMs: 1 })),
    data: { rows: async () => ({ train: rows(), held: null }), cut: async () => ({}) } as unknown as DataService,
  })
  stop = listenToEngine()
  store.setState(READY, true)
  return () => engine().close()
})

test('a start that is called off leaves no run and every choice, and the next one starts', async () => {
  const asked = start()
  await underWay()
  expect(store.getState()).toMatchObject({ busy: true, runs: [{ name: 'mine' }], work: { label: 'Loading the weights', unit: 'bytes' } })
  cancelWork()
  await asked
  expect(store.getState()).toEqual(READY)
  await start()
  expect(store.getState()).toMatchObject({ busy: false, work: null, runError: null, runs: [{ name: 'mine', error: null }] })
})

test('a probe that is called off leaves the plan, and no step is measured unasked from then on', async () => {
  const unwatch = watchPlan()
  await vi.waitFor(() => expect(store.getState().plan.plan?.dispatches).toBe(661))
  const { plan } = store.getState().plan
  const asked = probe()
  await underWay()
  expect(store.getState().plan.status).toBe('probing')
  cancelWork()
  await asked
  expect(store.getState()).toMatchObject({ busy: false, work: null, runError: null, plan: { status: 'ready', plan, measures: false } })
  await probe()
  expect(store.getState().plan).toMatchObject({ status: 'ready', plan: { msPerStep: 264 } })
  unwatch()
})

test('a choice makes the plan wait at once; one that is made while a step is measured is planned after it', async () => {
  const unwatch = watchPlan()
  const planned = () => vi.waitFor(() => expect(store.getState().plan.status).toBe('ready'))
  setRunOption('batch', 2)
  expect(store.getState().plan.status).toBe('planning')
  await planned()
  const asked = probe()
  await underWay()
  setRunOption('batch', 1)
  await new Promise((done) => setTimeout(done, 300))
  expect(store.getState().plan.status).toBe('probing')
  cancelWork()
  await asked
  expect(store.getState().plan.status).toBe('planning')
  await planned()
  unwatch()
})

test('a run that is brought back no more waits as it did; the one that made room for it rests too', async () => {
  const stored = viewOf({
    runId: 'old',
    name: 'old',
    config: { run: {} },
    status: 'paused',
    step: 4,
    checkpointStep: 4,
    evals: [],
    samples: [],
  } as never)
  store.setState({ runs: [stored, { ...stored, runId: 'other', live: true }], current: 'old' })
  connect({
    engine: new EngineClient(new FakeEngine({ ...FAKE, loadMs: 200, stored: [{ ...stored, steps: [] }] })),
    data: {} as DataService,
  })
  const asked = resume('old')
  await underWay()
  cancelWork()
  await asked
  expect(store.getState()).toMatchObject({ busy: false, work: null, runError: null, current: 'old' })
  expect(store.getState().runs.map((r) => [r.status, r.live])).toEqual([
    ['paused', false],
    ['paused', false],
  ])
  await held('old', {})
  expect(store.getState().runs.map((r) => r.live)).toEqual([true, false])
})

test('an answer that is stopped while weights are loaded was never asked for', async () => {
  const asked = generateBoth()
  await vi.waitFor(() => expect(store.getState().trying.work?.done).toBeGreaterThan(0))
  stopGenerating()
  await asked
  expect(store.getState().trying).toEqual(READY.trying)
})

test('downloads are listed, and gone once deleted', async () => {
  await listDownloads()
  const [first, second] = store.getState().downloads.list
  expect(second.complete).toBe(false)
  await deleteDownload(second.repo)
  expect(store.getState().downloads).toEqual({ list: [first], deleting: null, error: null })
})

test('what is not being loaded is not called off', () => {
  dispatch({ type: 'busy', busy: true })
  cancelWork()
  expect(store.getState().busy).toBe(true)
})
