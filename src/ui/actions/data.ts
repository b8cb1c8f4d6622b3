/** @file Opening data: read at once, shown as understood, rebuilt when the model, the mapping or the split changes. */
import type { WireError } from '../../errors.ts'
import { wireOf } from '../wire.ts'
import { keepFiles, keptFiles } from '../files.ts'
import { SAMPLES, sampleFile } from '../samples.ts'
import { data } from '../services.ts'
import { suggestPrompts } from '../prompts.ts'
import { configOf, templateOf } from '../store/select.ts'
import { INITIAL_CHOICES, type DataChoice, type DataSettings } from '../store/state.ts'
import { dispatch, store } from '../store/store.ts'

/** Rows fetched at a time for the preview. */
export const PREVIEW_ROWS = 20

let files: readonly File[] = []
let building: AbortController | null = null
/** Which opening is the newest: an older one that finishes late is dropped. */
let generation = 0

const AUTO: Pick<DataSettings, 'format' | 'mapping' | 'template' | 'completionOnly'> = {
  format: null,
  mapping: null,
  template: null,
  completionOnly: null,
}

export async function chooseSample(id = SAMPLES[0]?.id ?? ''): Promise<void> {
  const sample = SAMPLES.find((s) => s.id === id) ?? SAMPLES[0]
  if (!sample) return
  try {
    await open({ kind: 'sample', id: sample.id }, [await sampleFile(sample)], AUTO)
  } catch (e) {
    dispatch({ type: 'data', patch: { status: 'failed', error: wireOf(e) } })
  }
}
export const chooseDataFiles = (given: readonly File[]): Promise<void> =>
  open({ kind: 'files', names: given.map((f) => f.name), bytes: given.reduce((n, f) => n + f.size, 0) }, given, AUTO)

/** Open what was chosen on an earlier visit. */
export async function reloadData(): Promise<void> {
  const choice = store.getState().choices.data
  if (choice.kind === 'files') {
    const kept = await keptFiles('data-files')
    if (kept) return open(choice, kept, {})
    dispatch({
      type: 'notice',
      text: 'The data files of the last visit are no longer in this browser, so the sample is shown. Drop them again to go on with them.',
    })
    return chooseSample()
  }
  const sample = SAMPLES.find((s) => s.id === choice.id) ?? SAMPLES[0]
  if (!sample) return
  try {
    await open(choice, [await sampleFile(sample)], {})
  } catch (e) {
    dispatch({ type: 'data', patch: { status: 'failed', error: wireOf(e) } })
  }
}

async function open(choice: DataChoice, given: readonly File[], settings: Partial<DataSettings>): Promise<void> {
  const before = store.getState()
  const previous = before.data.summary ? { choice: before.choices.data, files, settings: before.choices.dataSettings } : null
  const mine = ++generation
  building?.abort()
  dispatch({ type: 'data', patch: { status: 'reading', progress: null, error: null } })
  try {
    const inspection = await data().inspect(given)
    if (mine !== generation) return
    files = given
    dispatch({ type: 'data', patch: { inspection, summary: null, preview: [], cut: null, prompts: [] } })
    dispatch({
      type: 'choose',
      patch: {
        data: choice,
        dataSettings: { ...store.getState().choices.dataSettings, ...settings },
        samplePrompts: 'format' in settings ? null : store.getState().choices.samplePrompts,
      },
    })
    if (choice.kind === 'files') void keep(given)
  } catch (e) {
    if (mine !== generation) return
    const error = wireOf(e)
    dispatch({ type: 'data', patch: { status: 'failed', progress: null, error } })
    // the file could not even be read: what was there before is still there
    if (previous) await putBack(previous, error)
    return
  }
  await rebuildData()
}

async function keep(given: readonly File[]): Promise<void> {
  if (!(await keepFiles('data-files', given)))
    dispatch({ type: 'notice', text: 'This browser has no room to keep the data files: after a reload they must be dropped again.' })
}

async function putBack(previous: { choice: DataChoice; files: readonly File[]; settings: DataSettings }, error: WireError): Promise<void> {
  files = previous.files
  dispatch({ type: 'choose', patch: { data: previous.choice, dataSettings: previous.settings } })
  await rebuildData()
  dispatch({ type: 'data', patch: { error } })
}

/** Tokenise the open files with the loaded model's tokenizer and the present settings. Does nothing before both are there. */
export async function rebuildData(): Promise<void> {
  const { model, choices, data: now } = store.getState()
  const info = model.info
  if (files.length === 0 || now.inspection.length === 0) return
  if (!info) {
    // read, but its tokens need a model
    dispatch({ type: 'data', patch: { status: 'idle' } })
    return
  }
  building?.abort()
  const abort = new AbortController()
  building = abort
  const mine = generation
  const current = (): boolean => building === abort && mine === generation
  const seq = configOf(store.getState())?.run.seq ?? 128
  dispatch({ type: 'data', patch: { status: 'reading', progress: null, error: null } })
  try {
    const summary = await data().build(
      { files, tokenizer: info.tokenizer, options: { ...choices.dataSettings, seq, vocabSize: info.vocabSize } },
      {
        signal: abort.signal,
        onProgress: (progress) => {
          if (current()) dispatch({ type: 'data', patch: { progress } })
        },
      },
    )
    const preview = summary.stats.usable > 0 ? await data().preview(0, PREVIEW_ROWS) : []
    if (!current()) return
    const prompts = suggestPrompts(summary, preview, store.getState().data.inspection, templateOf(store.getState()) !== null)
    dispatch({
      type: 'data',
      patch: { status: 'ready', summary, preview, previewStart: 0, cut: summary.stats.cut, prompts, progress: null, error: null },
    })
  } catch (e) {
    if (!current()) return
    const cancelled = wireOf(e).name === 'AbortError'
    dispatch({
      type: 'data',
      patch: {
        status: cancelled ? 'cancelled' : 'failed',
        summary: null,
        preview: [],
        cut: null,
        progress: null,
        error: cancelled ? null : wireOf(e),
      },
    })
  }
}

export const cancelData = (): void => {
  building?.abort()
}

/** Change how the data is read or split, and read it again. */
export async function setDataSettings(patch: Partial<DataSettings>): Promise<void> {
  dispatch({ type: 'choose', patch: { dataSettings: { ...store.getState().choices.dataSettings, ...patch } } })
  await rebuildData()
}
export const resetMapping = (): Promise<void> => setDataSettings({ format: INITIAL_CHOICES.dataSettings.format, mapping: null })

/** Rows [start, start + PREVIEW_ROWS) for the preview. */
export async function showRows(start: number): Promise<void> {
  try {
    const preview = await data().preview(start, PREVIEW_ROWS)
    dispatch({ type: 'data', patch: { preview, previewStart: start } })
  } catch (e) {
    dispatch({ type: 'data', patch: { error: wireOf(e) } })
  }
}

/** Count cuts at another length. The row tokens stay: only the figures change. */
export async function recut(seq: number): Promise<void> {
  const before = store.getState().data
  if (!before.summary || before.cut?.seq === seq) return
  try {
    const cut = await data().cut(seq)
    if (store.getState().data.summary === before.summary) dispatch({ type: 'data', patch: { cut } })
  } catch (e) {
    dispatch({ type: 'data', patch: { error: wireOf(e) } })
  }
}
