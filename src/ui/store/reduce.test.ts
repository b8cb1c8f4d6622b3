/** @file The reducer on every kind of engine event and on the page events that decide something. */
import { expect, test } from 'vitest'
import { defaults } from '../../options.ts'
import { RUN_OPTIONS } from '../../train/run_config.ts'
import type { RunSummary } from '../../worker/protocol.ts'
import { bestEval, reduce, viewOf, type StudioEvent } from './reduce.ts'
import { INITIAL, type RunView, type StudioState } from './state.ts'

const wire = { name: 'RunError', message: 'm', what: 'loss is NaN' }
const summary = (runId: string, patch: Partial<RunSummary> = {}): RunSummary => ({
  runId,
  name: runId,
  createdAt: '2026-01-01T00:00:00Z',
  modelName: 'm',
  modelFingerprint: 'f',
  dataName: 'd',
  config: { method: 'lora', options: {}, run: defaults(RUN_OPTIONS) },
  extras: { evalEvery: 0, patience: 0, keepBest: true, sampleEvery: 0, samplePrompts: [], sampleTokens: 8, checkpointEvery: 0 },
  status: 'done',
  step: 10,
  checkpointStep: 10,
  steps: [],
  evals: [],
  samples: [],
  error: null,
  ...patch,
})
const live = (runId: string, patch: Partial<RunView> = {}): RunView => ({
  ...viewOf(summary(runId)),
  status: 'running',
  live: true,
  ...patch,
})
const after = (...events: StudioEvent[]): StudioState => events.reduce(reduce, INITIAL)
const only = (s: StudioState): RunView => {
  const run = s.runs[0]
  if (!run || s.runs.length !== 1) throw new Error('one run was expected')
  return run
}

test('a started run is shown, and what ran before is put at rest', () => {
  const s = after({ type: 'run-started', run: live('a') }, { type: 'run-started', run: live('b') })
  expect(s.current).toBe('b')
  expect(s.runs.map((r) => [r.runId, r.live, r.status])).toEqual([
    ['b', true, 'running'],
    ['a', false, 'paused'],
  ])
})

test('status, evaluations and samples reach their run and no other', () => {
  const s = after(
    { type: 'run-started', run: live('a') },
    { type: 'run-status', runId: 'a', status: 'paused', step: 7, checkpointStep: 7, allocatedBytes: 99 },
    { type: 'run-eval', runId: 'a', record: { step: 5, loss: 2, perplexity: 7.4, tokens: 10 }, best: true },
    { type: 'run-eval', runId: 'other', record: { step: 6, loss: 1, perplexity: 2.7, tokens: 10 }, best: true },
    { type: 'run-sample', runId: 'a', record: { step: 0, prompt: 'p', text: 'x' } },
    { type: 'run-sample', runId: 'a', record: { step: 0, prompt: 'q', text: 'y' } },
  )
  expect(only(s)).toMatchObject({ status: 'paused', step: 7, checkpointStep: 7, allocatedBytes: 99, evals: [{ step: 5 }] })
  expect(only(s).samples.map((r) => r.prompt)).toEqual(['p', 'q'])
})

test('going back to a checkpoint replaces the evaluations and samples that came after it', () => {
  const evaluate = (step: number, loss: number): StudioEvent => ({
    type: 'run-eval',
    runId: 'a',
    record: { step, loss, perplexity: 1, tokens: 1 },
    best: false,
  })
  const s = after({ type: 'run-started', run: live('a') }, evaluate(10, 3), evaluate(20, 2), evaluate(30, 1), evaluate(20, 2.5))
  expect(only(s).evals.map((e) => [e.step, e.loss])).toEqual([
    [10, 3],
    [20, 2.5],
  ])
})

test('an error of a run marks that run and keeps what it had', () => {
  const s = after(
    { type: 'run-started', run: live('a') },
    { type: 'run-eval', runId: 'a', record: { step: 5, loss: 2, perplexity: 7.4, tokens: 10 }, best: true },
    { type: 'error', id: null, runId: 'a', error: wire },
  )
  expect(only(s)).toMatchObject({ status: 'failed', error: wire, evals: [{ step: 5 }] })
  expect(s.runError).toBeNull()
  expect(reduce(s, { type: 'error', id: null, runId: null, error: wire }).runError).toEqual(wire)
})

test('a lost device fails the running run, rests the others, keeps the device’s name', () => {
  const device = {
    vendor: 'v',
    architecture: 'a',
    description: 'd',
    software: false,
    f16: true,
    subgroups: null,
    matrix: null,
    dot: false,
    maxBufferSize: 1,
    maxStorageBufferBindingSize: 1,
    notes: [],
    tuned: null,
  }
  const s = after(
    { type: 'engine', engine: { status: 'ready', device } },
    { type: 'run-started', run: live('a', { checkpointStep: 4 }) },
    { type: 'device-lost', error: wire },
  )
  expect(s.engine).toEqual({ status: 'lost', error: wire, device })
  expect(only(s)).toMatchObject({ status: 'failed', live: false, checkpointStep: 4, error: wire })
})

test('stored runs are listed newest first; one that was running waits to be resumed and is shown', () => {
  const s = after({
    type: 'runs-listed',
    runs: [
      summary('old'),
      summary('broken-off', { status: 'running', createdAt: '2026-01-02T00:00:00Z' }),
      summary('new', { createdAt: '2026-01-03T00:00:00Z' }),
    ],
  })
  expect(s.runs.map((r) => [r.runId, r.status])).toEqual([
    ['new', 'done'],
    ['broken-off', 'paused'],
    ['old', 'done'],
  ])
  expect(s.current).toBe('broken-off')
})

test('listing keeps the live run as it is known here, and the run that is shown', () => {
  const s = after(
    { type: 'run-started', run: live('a', { step: 50 }) },
    { type: 'runs-listed', runs: [summary('a', { step: 40 }), summary('b')] },
  )
  expect(s.runs.find((r) => r.runId === 'a')).toMatchObject({ live: true, step: 50 })
  expect(s.current).toBe('a')
  expect(reduce(INITIAL, { type: 'runs-listed', runs: [summary('b')] }).current).toBeNull()
  expect(reduce({ ...INITIAL, current: 'gone' }, { type: 'runs-listed', runs: [summary('b')] }).current).toBeNull()
})

test('a restored run is live and the only live one', () => {
  const s = after(
    { type: 'runs-listed', runs: [summary('a'), summary('b', { status: 'paused' })] },
    { type: 'run-restored', run: summary('a', { step: 12 }) },
  )
  expect(s.runs.filter((r) => r.live).map((r) => [r.runId, r.step])).toEqual([['a', 12]])
  expect(s.current).toBe('a')
})

test('a model that is loaded puts runs at rest and takes the adapter along, also the same again; the plan goes with another one', () => {
  const info = (fingerprint: string) => ({ fingerprint }) as NonNullable<StudioState['model']['info']>
  const source = { kind: 'adapter', name: 'x', method: 'lora', options: {}, trainable: 1, notes: [] } as const
  const s = after(
    { type: 'model', patch: { info: info('f1') } },
    { type: 'run-started', run: live('a') },
    { type: 'trying', patch: { source } },
  )
  const plan = { ...s.plan, status: 'ready' } as const
  for (const [fingerprint, status] of [
    ['f1', 'ready'],
    ['f2', 'none'],
  ]) {
    const next = reduce({ ...s, plan }, { type: 'model', patch: { info: info(fingerprint) } })
    expect(only(next)).toMatchObject({ live: false, status: 'paused' })
    expect(next.trying.source).toBeNull()
    expect(next.plan.status).toBe(status)
  }
})

test('a deleted run is gone, and no longer shown', () => {
  const s = after({ type: 'runs-listed', runs: [summary('a', { status: 'paused' })] }, { type: 'run-deleted', runId: 'a' })
  expect([s.runs, s.current]).toEqual([[], null])
})

test('tokens add up on their side', () => {
  const s = after(
    { type: 'side', side: 'tuned', patch: { status: 'waiting' } },
    { type: 'side-token', side: 'tuned', text: 'a ' },
    { type: 'side-token', side: 'tuned', text: 'b' },
  )
  expect(s.trying.tuned).toMatchObject({ status: 'streaming', text: 'a b' })
  expect(s.trying.base.text).toBe('')
})

test('a field that is put right is no longer in the way', () => {
  const s = after(
    { type: 'invalid', key: 'lora.r', why: 'no' },
    { type: 'invalid', key: 'run.lr', why: 'no' },
    { type: 'invalid', key: 'lora.r', why: null },
  )
  expect(s.invalid).toEqual({ 'run.lr': 'no' })
})

test('slices are patched and nothing else moves', () => {
  const s = reduce(INITIAL, { type: 'choose', patch: { step: 'data' } })
  expect(s).toEqual({ ...INITIAL, choices: { ...INITIAL.choices, step: 'data' } })
  expect(reduce(s, { type: 'run-step', runId: 'a', record: { step: 1, loss: 1, grad_norm: 1, lr: 1, tokens: 1, ms: 1 } })).toBe(s)
})

test('the best evaluation is the lowest, the first of equals', () => {
  const e = (step: number, loss: number) => ({ step, loss, perplexity: 1, tokens: 1 })
  expect(bestEval([e(1, 3), e(2, 2), e(3, 2)])?.step).toBe(2)
  expect(bestEval([])).toBeNull()
})
