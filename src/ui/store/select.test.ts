/** @file What the choices come to: defaults per method, changes over them, lengths, obstacles. */
import { methodDefaults } from '../../train/run_config.ts'
import { expect, test } from 'vitest'
import { METHODS } from '../methods.ts'
import type { DatasetSummary } from '../../data/report.ts'
import type { ModelInfo } from '../../worker/protocol.ts'
import {
  changedNames,
  configOf,
  epochsOfSteps,
  extrasOf,
  methodOf,
  obstacle,
  optionValues,
  ownNames,
  runValues,
  stepsOfEpochs,
  templateOf,
} from './select.ts'
import { INITIAL, INITIAL_CHOICES, type Choices, type StudioState } from './state.ts'
import { restoredChoices } from './store.ts'

const method = (id: string) => {
  const m = METHODS.get(id)
  if (!m) throw new Error(`${id} is not registered`)
  return m
}
const ready: StudioState = {
  ...INITIAL,
  engine: {
    status: 'ready',
    device: {
      vendor: '',
      architecture: '',
      description: '',
      software: true,
      f16: false,
      subgroups: null,
      matrix: null,
      dot: false,
      maxBufferSize: 1,
      maxStorageBufferBindingSize: 1,
      notes: [],
      tuned: null,
    },
  },
  model: { ...INITIAL.model, status: 'ready', info: { name: 'm' } as ModelInfo },
  data: { ...INITIAL.data, status: 'ready', summary: { stats: { train: 100, trainableTokens: 50 } } as DatasetSummary },
}

test('every method has run defaults that the run options accept, and at least one sets its own learning rate', () => {
  for (const m of METHODS.values()) expect(Object.keys(methodDefaults(m, null))).toEqual(Object.keys(methodDefaults(null, null)))
  expect(ownNames()).toContain('lr')
})

test('a learning rate changed for one method stays with it; a batch changed once is changed for all', () => {
  const [a, b] = [...METHODS.values()]
  if (!a || !b) throw new Error('two methods are needed')
  const c: Choices = { ...INITIAL_CHOICES, ownRun: { [a.id]: { lr: 0.5 } }, sharedRun: { batch: 7 } }
  expect(runValues(a, c, null, null)).toMatchObject({ lr: 0.5, batch: 7 })
  expect(runValues(b, c, null, null)).toMatchObject({ lr: methodDefaults(b, null).lr, batch: 7 })
})

test('options: declared, with changes, without what is no longer declared', () => {
  const lora = method('lora')
  expect(optionValues(lora, { ...INITIAL_CHOICES, options: { lora: { r: 3, gone: 1 } } })).toMatchObject({ r: 3, alpha: 16 })
  expect(optionValues(lora, { ...INITIAL_CHOICES, options: { lora: { gone: 1 } } })).not.toHaveProperty('gone')
})

test('a stored method that is gone falls back to one that is there', () => {
  expect(methodOf({ ...INITIAL_CHOICES, method: 'gone' })?.id).toBe([...METHODS.keys()][0])
  expect(methodOf(INITIAL_CHOICES, new Map())).toBeNull()
})

test("the template in use: the data step's choice, else the model's own; rows of plain text have none", () => {
  const at = (own: string | null, chosen: string | null, format = 'messages'): StudioState => ({
    ...ready,
    model: { ...ready.model, info: { ...ready.model.info, chatTemplate: own } as ModelInfo },
    choices: { ...INITIAL_CHOICES, dataSettings: { ...INITIAL_CHOICES.dataSettings, template: chosen } },
    data: { ...ready.data, summary: { ...ready.data.summary, files: [{ detection: { format } }] } as unknown as DatasetSummary },
  })
  expect(templateOf(at('own', null))).toBe('own')
  expect(templateOf(at('own', 'mine'))).toBe('mine')
  expect(templateOf(at(null, 'mine'))).toBe('mine')
  expect(templateOf(at('own', ''))).toBeNull()
  expect(templateOf(at(null, null))).toBeNull()
  expect(templateOf(INITIAL)).toBeNull()
  expect(extrasOf(at('own', 'mine')).sampleTemplate).toBe('mine')
  expect(extrasOf(at('own', null, 'instruction')).sampleTemplate).toBe('own')
  expect(extrasOf(at('own', null, 'text')).sampleTemplate).toBeNull()
  expect(extrasOf(at('own', null, 'tokens')).sampleTemplate).toBeNull()
})

test('epochs and steps', () => {
  const o = { batch: 4, accum: 2 }
  expect(stepsOfEpochs(1, 100, o)).toBe(13)
  expect(stepsOfEpochs(0.01, 4, o)).toBe(1)
  expect(epochsOfSteps(25, 100, o)).toBe(2)
  expect(epochsOfSteps(25, 0, o)).toBe(0)
  const s = { ...ready, choices: { ...INITIAL_CHOICES, length: { unit: 'epochs', epochs: 2 } as const } }
  expect(configOf(s)?.run.steps).toBe(50)
})

test('obstacles come in the order of the steps and name where to go', () => {
  expect(obstacle(INITIAL)?.at).toBe('model')
  expect(
    obstacle({ ...ready, engine: { status: 'missing', error: { name: 'GpuError', message: '', what: 'none' }, device: null } })?.error
      ?.what,
  ).toBe('none')
  expect(obstacle({ ...ready, data: INITIAL.data })?.at).toBe('data')
  expect(
    obstacle({
      ...ready,
      data: { ...ready.data, cut: { seq: 2, truncated: 9, answersCut: 9, lost: 9, trainableTokens: 0, totalTokens: 18 } },
    })?.text,
  ).toContain('cut away')
  expect(
    obstacle({ ...ready, data: { ...ready.data, summary: { stats: { train: 100, trainableTokens: 0 } } as DatasetSummary } })?.text,
  ).toContain('no token')
  expect(obstacle({ ...ready, invalid: { 'lora.r': 'expected a number' } })).toMatchObject({ at: 'method', text: 'r: expected a number' })
  const refusal = { name: 'GpuError', message: '', what: 'too big' }
  const plan = { ...INITIAL.plan, status: 'ready' as const, plan: { refusal } as NonNullable<StudioState['plan']['plan']> }
  expect(obstacle({ ...ready, plan })?.error).toBe(refusal)
  expect(obstacle(ready)).toBeNull()
})

test('changed names compare by value', () => {
  const lora = method('lora')
  const values = optionValues(lora, INITIAL_CHOICES)
  expect(changedNames(lora.options, { ...values, target_modules: [...(values.target_modules as string[])] }).size).toBe(0)
  expect([...changedNames(lora.options, { ...values, r: 5 })]).toEqual(['r'])
})

test('choices read back: wrong kinds and unknown steps give way to defaults, the rest stays', () => {
  expect(restoredChoices(null)).toEqual(INITIAL_CHOICES)
  expect(restoredChoices({ step: 'nowhere', method: 7, scale: 1.5, extras: { evalEvery: 3 } })).toEqual({
    ...INITIAL_CHOICES,
    scale: 1.5,
    extras: { ...INITIAL_CHOICES.extras, evalEvery: 3 },
  })
  expect(restoredChoices({ prompt: 'x', samplePrompts: ['a'], model: { kind: 'hub', repo: 'a/b', revision: 'main' } })).toMatchObject({
    prompt: 'x',
    samplePrompts: ['a'],
    model: { kind: 'hub', repo: 'a/b' },
  })
})

test('the rate of methods that train matrices falls with the width of the model, others keep theirs', () => {
  const at = (id: string, width: number) => methodDefaults(method(id), width).lr
  expect(at('lora', 576)).toBe(method('lora').runDefaults.lr)
  expect(at('lora', 128)).toBe(0.0045)
  expect(at('lora', 2048)).toBe(0.00028)
  expect(at('ia3', 128)).toBe(at('ia3', 4096))
})
