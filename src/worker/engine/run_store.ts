/** @file Runs as they are stored: `run.json` (what the run is), `rows.safetensors` (its data), `journal.jsonl` (its chart, growing), `checkpoint.safetensors`.
 * A crash can cost the journal's last line and nothing else; what is past the newest checkpoint is drawn, and replaced when the run goes on. */
import { FileError, RunError, type WireError } from '../../errors.ts'
import { type BlobStore, keyPart } from '../../io/blob_store.ts'
import { isObject, readJsonObject } from '../../io/json.ts'
import type { RunRecords } from '../../train/run.ts'
import {
  type EvalRecord,
  renamed,
  type RunConfig,
  type RunExtras,
  type RunOptions,
  type SampleRecord,
  type StepRecord,
} from '../../train/run_config.ts'
import type { RunStatus, RunSummary } from '../protocol.ts'
import { decodeCheckpoint, decodeRows, encodeCheckpoint, encodeRows, type RunData, type StoredCheckpoint } from './checkpoint.ts'

const VERSION = 1

/** What a run is, apart from its data and what was measured. */
export interface RunRecord {
  readonly version: number
  readonly runId: string
  readonly name: string
  readonly createdAt: string
  readonly model: { readonly name: string; readonly architecture: string; readonly fingerprint: string }
  readonly data: { readonly name: string; readonly sha256: string; readonly rows: number }
  readonly config: RunConfig
  readonly extras: RunExtras
  /** Module paths of the adapter it went on from; null: those that the options select. */
  readonly targets: readonly string[] | null
  status: RunStatus
  /** Optimizer steps done. */
  step: number
  /** Step of the newest stored checkpoint. */
  checkpointStep: number
  error: WireError | null
}
export type Measured =
  | { readonly step: StepRecord }
  | { readonly eval: EvalRecord }
  | { readonly sample: SampleRecord }
  /** The run went on from a checkpoint: what follows replaces all that was measured after this many steps. */
  | { readonly from: number }

const folder = (runId: string): string => `runs/${keyPart(runId)}`

/** What is measured up to and including a step. */
export const upTo = (r: RunRecords, step: number): RunRecords => ({
  steps: r.steps.filter((s) => s.step <= step),
  evals: r.evals.filter((e) => e.step <= step),
  samples: r.samples.filter((s) => s.step <= step),
})

export const summaryOf = (r: RunRecord, measured: RunRecords): RunSummary => ({
  runId: r.runId,
  name: r.name,
  createdAt: r.createdAt,
  modelName: r.model.name,
  modelFingerprint: r.model.fingerprint,
  dataName: r.data.name,
  config: r.config,
  extras: r.extras,
  status: r.status,
  step: r.step,
  checkpointStep: r.checkpointStep,
  error: r.error,
  ...measured,
})

export class RunStore {
  constructor(readonly store: BlobStore) {}

  /** Everything a resume needs besides the model, before the first step. */
  async create(record: RunRecord, data: RunData): Promise<void> {
    await this.store.write(`${folder(record.runId)}/rows.safetensors`, encodeRows(data))
    await this.writeRecord(record)
  }
  async writeRecord(record: RunRecord): Promise<void> {
    await this.store.write(`${folder(record.runId)}/run.json`, new TextEncoder().encode(JSON.stringify(record)))
  }
  async append(runId: string, lines: readonly Measured[]): Promise<void> {
    if (lines.length === 0) return
    // A line that a crash cut off ends before this one begins.
    const text = `\n${lines.map((l) => JSON.stringify(l)).join('\n')}\n`
    await this.store.append(`${folder(runId)}/journal.jsonl`, new TextEncoder().encode(text))
  }
  async writeCheckpoint(runId: string, c: StoredCheckpoint): Promise<void> {
    await this.store.write(`${folder(runId)}/checkpoint.safetensors`, encodeCheckpoint(c))
  }

  /** @throws RunError where there is no such run; FileError where it is damaged. */
  async readRecord(runId: string): Promise<RunRecord> {
    const source = await this.store.read(`${folder(runId)}/run.json`)
    if (!source)
      throw new RunError('there is no such stored run', {
        where: runId,
        why: 'It was deleted, perhaps in another tab',
        fix: 'Reload the page',
      })
    const value = await readJsonObject(source)
    if (value.version !== VERSION || value.runId !== runId || !isObject(value.config) || !isObject(value.model))
      throw new FileError('The stored run cannot be read', {
        where: source.name,
        why: 'It was written by another version of the studio, or it is damaged',
        fix: 'Delete the run',
      })
    const record = value as unknown as RunRecord
    const run = renamed({ ...record.config.run }) as RunOptions
    return { ...record, config: { ...record.config, run } }
  }
  async readData(runId: string): Promise<RunData> {
    const source = await this.store.read(`${folder(runId)}/rows.safetensors`)
    if (!source) throw new FileError("The run's rows are gone", { where: runId, fix: 'Start the run anew with its data' })
    return decodeRows(source)
  }
  async readCheckpoint(runId: string): Promise<StoredCheckpoint | null> {
    const source = await this.store.read(`${folder(runId)}/checkpoint.safetensors`)
    return source && decodeCheckpoint(source)
  }
  /** The chart. A line that was cut off by a crash is left out. */
  async readJournal(runId: string): Promise<RunRecords> {
    const source = await this.store.read(`${folder(runId)}/journal.jsonl`)
    const text = source ? new TextDecoder().decode(await source.read(0, source.size)) : ''
    let out: { steps: StepRecord[]; evals: EvalRecord[]; samples: SampleRecord[] } = { steps: [], evals: [], samples: [] }
    for (const line of text.split('\n')) {
      const m = parseLine(line)
      if (!m) continue
      if ('from' in m) {
        const kept = upTo(out, m.from)
        out = { steps: [...kept.steps], evals: [...kept.evals], samples: [...kept.samples] }
      } else if ('step' in m) out.steps.push(m.step)
      else if ('eval' in m) out.evals.push(m.eval)
      else out.samples.push(m.sample)
    }
    return out
  }

  /** Every stored run that can be read, newest first. One that is marked as running was cut off: it is paused. */
  async list(): Promise<RunSummary[]> {
    const files = await this.store.list('runs/')
    const out: RunSummary[] = []
    for (const { key } of files.filter((f) => f.key.endsWith('/run.json'))) {
      const source = await this.store.read(key)
      const value = source && (await readJsonObject(source).catch(() => null))
      if (!value || typeof value.runId !== 'string') continue
      const record = await this.readRecord(value.runId).catch(() => null)
      if (!record) continue
      const summary = summaryOf(record, await this.readJournal(record.runId))
      out.push({
        ...summary,
        status: record.status === 'running' ? 'paused' : record.status,
        step: Math.max(record.step, summary.steps.at(-1)?.step ?? 0),
      })
    }
    return out.sort((a, b) => b.createdAt.localeCompare(a.createdAt))
  }

  /** run.json goes first: what is left of a deletion that was cut off is no run. */
  async remove(runId: string): Promise<void> {
    await this.store.remove(`${folder(runId)}/run.json`)
    for (const { key } of await this.store.list(`${folder(runId)}/`)) await this.store.remove(key)
  }
}

function parseLine(line: string): Measured | null {
  if (line === '') return null
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) ? (value as unknown as Measured) : null
  } catch {
    return null
  }
}
