/** @file Pure helpers of the page: forms, hub ids, prompts, sentences, exports, titles, actions. */
import { expect, test } from 'vitest'
import { defaults, float, int } from '../options.ts'
import { RUN_OPTIONS, type StepRecord } from '../train/run_config.ts'
import type { DatasetSummary, PreviewRow } from '../data/report.ts'
import { planKey } from './actions/plan.ts'
import { freshName } from './actions/run.ts'
import { csvOf } from './charts/export.ts'
import { niceTicks } from './charts/Histogram.tsx'
import { PointSeries } from './charts/series.ts'
import { whyNot, written } from './components/OptionsForm.tsx'
import { nameOf } from './files.ts'
import { titleOf } from './page/effects.ts'
import { cutSentence } from './panels/DataChecks.tsx'
import { repoOf } from './panels/HubForm.tsx'
import { actionsOf } from './panels/RunControls.tsx'
import { visibleText } from './panels/RowPreview.tsx'
import { suggestPrompts } from './prompts.ts'
import { configDiff } from './store/config_diff.ts'
import { INITIAL, INITIAL_CHOICES, type RunView } from './store/state.ts'

const config = { method: 'lora', options: {}, run: defaults(RUN_OPTIONS) }

test('form texts: numbers as people write them, and why a text is none', () => {
  const r = int({ label: 'r', help: '', default: 8, min: 1, max: 64 })
  const lr = float({ label: 'lr', help: '', default: 1e-3, min: 0, max: 1, step: 1e-4 })
  expect(whyNot('r', r, '8')).toBeNull()
  expect(whyNot('r', r, '0')).toBe('got 0, expected a whole number from 1 to 64')
  expect(whyNot('r', r, '8.5')).toContain('whole number')
  expect(whyNot('r', r, '')).toContain('expected')
  expect(whyNot('lr', lr, '1e-4')).toBeNull()
  expect(whyNot('lr', lr, '1e')).toContain('expected a number')
  expect([written(1e-4), written(0.001), written(0), written(16)]).toEqual(['1e-4', '0.001', '0', '16'])
})

test('hub ids from ids and addresses', () => {
  expect(repoOf('a/b-1.0')).toEqual({ repo: 'a/b-1.0', revision: null })
  expect(repoOf(' https://huggingface.co/a/b ')).toEqual({ repo: 'a/b', revision: null })
  expect(repoOf('https://huggingface.co/a/b/tree/v2/x')).toEqual({ repo: 'a/b', revision: 'v2' })
  expect(repoOf('gpt2')).toEqual({ repo: 'gpt2', revision: null })
  expect(repoOf('a/b/c')).toBeNull()
  expect(repoOf('not an id')).toBeNull()
})

const row = (index: number, context: string[], answer: string[], held = false): PreviewRow => ({
  index,
  file: 'f',
  line: index + 1,
  held,
  length: context.length + answer.length,
  tokens: [...context.map((text) => ({ text, trained: false })), ...answer.map((text) => ({ text, trained: true }))].map((t, i) => ({
    ...t,
    id: i,
    special: t.text.startsWith('<'),
    cut: false,
  })),
})
const summaryOf = (format: string): DatasetSummary =>
  ({ files: [{ detection: { format, mapping: { messages: 'm' } } }] }) as unknown as DatasetSummary

test('prompts: the context of held-out rows first, without special tokens or answers', () => {
  const rows = [
    row(0, ['<s>', 'one', ' two'], [' yes']),
    row(1, ['<s>', 'three', '?'], [' no'], true),
    row(2, ['<s>', 'one', ' two'], [' x']),
  ]
  expect(suggestPrompts(summaryOf('prompt-completion'), rows, [], false)).toEqual(['three?', 'one two'])
})
test('prompts: plain text gives its first words, messages their first question', () => {
  expect(suggestPrompts(summaryOf('text'), [row(0, ['<s>'], ['Once', ' upon', ' a', ' time'])], [], false)).toEqual(['Once upon a time'])
  const sample = [
    { m: '[{"role":"system","content":"s"},{"role":"user","content":"Hi \\"you\\""}]' },
    { m: '[{"role": "user", "content": "cut off he…' },
  ]
  expect(suggestPrompts(summaryOf('messages'), [], [{ sample } as never], true)).toEqual(['Hi "you"'])
})

test('prompts: with a template the columns are read, without what was shortened', () => {
  const detection = { format: 'instruction', mapping: { instruction: 'i', input: 'x', output: 'o' } }
  const sample = [
    { i: 'Define it.', x: 'politeness', o: 'a' },
    { i: 'Long …', o: 'b' },
    { i: 'Say so.', o: 'c' },
  ]
  const summary = { files: [{ detection }] } as unknown as DatasetSummary
  expect(suggestPrompts(summary, [row(0, ['<s>', 'user', 'Define'], ['a'])], [{ sample } as never], true)).toEqual([
    'Define it.\npoliteness',
    'Say so.',
  ])
})

test('what a cut does, in words', () => {
  const cut = { seq: 128, truncated: 0, answersCut: 0, lost: 0, trainableTokens: 1, totalTokens: 1 }
  expect(cutSentence(cut)).toBe('No row is longer than 128 tokens: none is cut.')
  expect(cutSentence({ ...cut, truncated: 9 })).toBe('9 rows are cut at 128 tokens: no answer loses a token.')
  expect(cutSentence({ ...cut, truncated: 9, answersCut: 3, lost: 1 })).toBe(
    '9 rows are cut at 128 tokens: 3 answers lose tokens, 1 row loses its whole answer.',
  )
})

test('tokens show their white space', () => {
  expect([visibleText('a\n'), visibleText('\t'), visibleText('')]).toEqual(['a↵\n', '⇥', '∅'])
})

test('ticks are round and reach the end', () => {
  expect(niceTicks(140, 4)).toEqual([0, 50, 100])
  expect(niceTicks(7, 4)).toEqual([0, 2, 4, 6])
})

test('the CSV has every step at full precision and the evaluation before the first', () => {
  const record = (step: number): StepRecord => ({ step, loss: 1 / 3, grad_norm: 1, lr: 1e-3, tokens: 5, ms: 2 })
  const lines = csvOf(new PointSeries([record(1), record(2)]), [
    { step: 0, loss: 4, perplexity: 54.6, tokens: 9 },
    { step: 2, loss: 3, perplexity: 20.1, tokens: 9 },
  ]).split('\n')
  expect(lines).toHaveLength(5)
  expect(lines[1]).toBe('0,,,4,54.6,,,,')
  expect(lines[2]).toBe(`1,${1 / 3},${1 / 3},,,0.001,1,5,2`)
  expect(lines[3]).toContain(',3,20.1,')
  for (const l of lines.slice(0, 4)) expect(l.split(',')).toHaveLength(9)
})

test('names of runs do not repeat', () => {
  const s = { choices: { ...INITIAL_CHOICES, method: 'lora' }, runs: [{ name: 'morals-lora-1' }] as RunView[] }
  expect(freshName(s, 'morals.sft.jsonl')).toBe('morals-lora-2')
  expect(freshName({ ...s, choices: { ...s.choices, runName: 'mine' } }, 'x')).toBe('mine')
  expect(freshName({ ...s, choices: { ...s.choices, runName: 'morals-lora-1' } }, 'x')).toBe('morals-lora-1-1')
  expect(nameOf(['a', 'b', 'c'])).toBe('a and 2 more')
})

test('the plan depends on what changes buffers, not on rate, seed or length', () => {
  const key = planKey(config, INITIAL)
  expect(planKey({ ...config, run: { ...config.run, lr: 1, seed: 5, steps: 9, schedule: 'cosine' } }, INITIAL)).toBe(key)
  expect(planKey({ ...config, run: { ...config.run, seq: 64 } }, INITIAL)).not.toBe(key)
  expect(planKey({ ...config, options: { r: 4 } }, INITIAL)).not.toBe(key)
  expect(planKey(config, { ...INITIAL, choices: { ...INITIAL_CHOICES, samplePrompts: ['a longer one'] } })).not.toBe(key)
})

test('the title tells how far the run is', () => {
  const run = { name: 'r', status: 'running', config } as unknown as RunView
  expect(titleOf(run, 42)).toBe('42% · r · Etude')
  expect(titleOf({ ...run, status: 'failed' }, 42)).toBe('Run failed · r · Etude')
  expect(titleOf(null, 0)).toBe('Etude')
})

test('actions: the primary one is last, and only what can be done is offered', () => {
  const base = { config, live: true, checkpointStep: 0, error: null }
  const facts = { engineReady: true, otherModel: false, step: 40 }
  expect(actionsOf({ ...base, status: 'running' }, facts)).toEqual(['stop', 'pause'])
  expect(actionsOf({ ...base, status: 'paused' }, facts)).toEqual(['stop', 'step', 'resume'])
  expect(actionsOf({ ...base, status: 'paused', live: false }, facts)).toEqual(['new'])
  expect(actionsOf({ ...base, status: 'paused', live: false, checkpointStep: 5 }, { ...facts, otherModel: true })).toEqual(['new'])
  expect(actionsOf({ ...base, status: 'stopped', checkpointStep: 40 }, facts)).toEqual(['resume', 'new', 'try'])
  expect(actionsOf({ ...base, status: 'done', checkpointStep: 100 }, { ...facts, step: 100 })).toEqual(['new', 'try'])
  const nan = { name: 'RunError', message: '', what: 'NaN' }
  expect(actionsOf({ ...base, status: 'failed', checkpointStep: 30, error: nan }, facts)).toEqual(['try', 'resume', 'change'])
  expect(actionsOf({ ...base, live: false, status: 'failed', error: nan }, facts)).toEqual(['change'])
  expect(actionsOf({ ...base, live: false, status: 'failed', checkpointStep: 30, error: { ...nan, name: 'GpuError' } }, facts)).toEqual([
    'new',
    'try',
    'resume',
  ])
})

test('runs are compared by option', () => {
  const other = { method: 'lora', options: { r: 4, target_modules: ['q_proj', 'v_proj'] }, run: { ...config.run, lr: 0.5 } }
  expect(configDiff(config, config)).toEqual([])
  expect(configDiff(config, other)).toEqual([
    { name: 'lr', a: String(config.run.lr), b: '0.5' },
    { name: 'r', a: '–', b: '4' },
    { name: 'target_modules', a: '–', b: 'q_proj, v_proj' },
  ])
})
