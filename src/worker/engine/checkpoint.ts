/** @file Checkpoints and token rows as safetensors: a whole checkpoint in one file, so that it is there whole or not at all, and other tools can read it. */
import { rowCount, type TokenRows } from '../../data/types.ts'
import { FileError, RunError } from '../../errors.ts'
import { isObject } from '../../io/json.ts'
import { readSafetensors } from '../../io/safetensors.ts'
import { streamSafetensors, type TensorStream } from '../../io/safetensors_writer.ts'
import type { ByteSource, StoredTensor } from '../../io/source.ts'
import type { Checkpoint } from '../../train/run.ts'
import type { EvalRecord } from '../../train/run_config.ts'

/** A checkpoint without the chart, which is stored as it grows. */
export type StoredCheckpoint = Omit<Checkpoint, 'records'>

const damaged = (where: string, what: string): FileError =>
  new FileError(what, { where, why: 'The stored run is damaged', fix: 'Delete the run and start it anew' })

const floats = (name: string, data: ArrayBuffer): TensorStream => ({
  name,
  type: 'F32',
  shape: [data.byteLength / 4],
  load: () => new Float32Array(data),
})

/** Moments in 8 bits are words of codes and scales. */
const moments = (name: string, data: ArrayBuffer, { param }: { param: ArrayBuffer }): TensorStream =>
  data.byteLength === param.byteLength
    ? floats(name, data)
    : { name, type: 'I32', shape: [data.byteLength / 4], load: () => new Int32Array(data) }

/** Bytes of a checkpoint, piece by piece. */
export function encodeCheckpoint(c: StoredCheckpoint): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const tensors = [
    ...c.state.arenas.flatMap((a, i) => [floats(`param.${i}`, a.param), moments(`m.${i}`, a.m, a), moments(`v.${i}`, a.v, a)]),
    ...(c.best?.params ?? []).map((p, i) => floats(`best.${i}`, p)),
  ]
  const facts = { step: c.state.step, cursor: c.cursor, best: c.best?.record ?? null, arenas: c.state.arenas.length }
  return streamSafetensors(tensors, { etude: JSON.stringify(facts) })
}

interface Facts {
  readonly step: number
  readonly cursor: Checkpoint['cursor']
  readonly best: EvalRecord | null
  readonly arenas: number
}

function parseFacts(text: string | undefined, where: string): Facts {
  let value: unknown = null
  try {
    value = JSON.parse(text ?? '')
  } catch {
    // told below
  }
  const count = (v: unknown): boolean => Number.isSafeInteger(v) && Number(v) >= 0
  if (!isObject(value) || !count(value.step) || !count(value.arenas) || !isObject(value.cursor))
    throw damaged(where, 'The checkpoint does not say which step it is of')
  return value as unknown as Facts
}

/** @throws FileError where the file is damaged. */
export async function decodeCheckpoint(source: ByteSource): Promise<StoredCheckpoint> {
  const { tensors, metadata } = await readSafetensors(source)
  const facts = parseFacts(metadata.get('etude'), source.name)
  const read = async (name: string): Promise<ArrayBuffer> => (await bytesOf(tensors, name, source.name)).buffer
  const each = async <T>(n: number, make: (i: number) => Promise<T>): Promise<T[]> => {
    const out: T[] = []
    for (let i = 0; i < n; i++) out.push(await make(i))
    return out
  }
  const arenas = await each(facts.arenas, async (i) => ({
    param: await read(`param.${i}`),
    m: await read(`m.${i}`),
    v: await read(`v.${i}`),
  }))
  const best = facts.best && { record: facts.best, params: await each(facts.arenas, (i) => read(`best.${i}`)) }
  return { state: { step: facts.step, arenas }, cursor: facts.cursor, best }
}

async function bytesOf(tensors: ReadonlyMap<string, StoredTensor>, name: string, where: string): Promise<Uint8Array<ArrayBuffer>> {
  const t = tensors.get(name)
  if (!t) throw damaged(where, `${name} is missing`)
  return t.source.read(t.offset, t.bytes)
}

export interface RunData {
  readonly train: TokenRows
  readonly held: TokenRows | null
}

/** Bytes of a run's rows, piece by piece. */
export function encodeRows({ train, held }: RunData): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const ints = (name: string, data: Int32Array | Uint32Array): TensorStream => ({
    name,
    type: 'I32',
    shape: [data.length],
    load: () => data,
  })
  const rows = (name: string, r: TokenRows): TensorStream[] => [
    ints(`${name}.ids`, r.ids),
    ints(`${name}.labels`, r.labels),
    ints(`${name}.offsets`, r.offsets),
  ]
  return streamSafetensors([...rows('train', train), ...(held ? rows('held', held) : [])])
}

/** @throws FileError where the file is damaged. */
export async function decodeRows(source: ByteSource): Promise<RunData> {
  const { tensors } = await readSafetensors(source)
  const read = async (name: string): Promise<TokenRows> => {
    const part = async (p: string): Promise<ArrayBuffer> => (await bytesOf(tensors, `${name}.${p}`, source.name)).buffer
    const rows = {
      ids: new Int32Array(await part('ids')),
      labels: new Int32Array(await part('labels')),
      offsets: new Uint32Array(await part('offsets')),
    }
    checkRows(rows, Infinity, `${source.name}, ${name}`)
    return rows
  }
  return { train: await read('train'), held: tensors.has('held.ids') ? await read('held') : null }
}

/** Whether rows are rows at all, and of ids that the model has. Throws RunError naming the row. */
export function checkRows(rows: TokenRows, vocabSize: number, where: string): void {
  const { ids, labels, offsets } = rows
  const ordered = offsets.every((o, i) => i === 0 || o >= offsets[i - 1])
  if (offsets.length === 0 || offsets[0] !== 0 || !ordered || offsets.at(-1) !== ids.length || labels.length !== ids.length)
    throw new RunError('the rows do not fit their tokens', { where, fix: 'Read the data again' })
  const bad = ids.findIndex((id, i) => id < 0 || id >= vocabSize || labels[i] >= vocabSize)
  if (bad < 0) return
  let row = 0
  while (row + 1 < rowCount(rows) && offsets[row + 1] <= bad) row++
  throw new RunError(`token id ${Math.max(ids[bad], labels[bad])} is not in the vocabulary of ${vocabSize}`, {
    where: `${where}, row ${row + 1}`,
    why: 'The rows were tokenised for another model',
    fix: 'Tokenise them with the tokenizer of this model',
  })
}
