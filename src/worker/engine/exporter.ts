/** @file A zip of what was trained, loaded back from its own bytes and compared before it is offered. */
import { RunError } from '../../errors.ts'
import { readAdapter } from '../../io/adapter_files.ts'
import { openModel } from '../../io/model_files.ts'
import { safetensorsBlob } from '../../io/safetensors_writer.ts'
import { fromBlob } from '../../io/sources.ts'
import { unzipFiles, type ZipInput, zipFiles } from '../../io/zip.ts'
import type { State } from '../../train/adapter.ts'
import { holdsFile } from '../../train/base_formats.ts'
import { type ModelBundle, openBundle } from '../../train/bundle.ts'
import { adapterFiles, type ExportItem, type Manifest, modelFiles } from '../../train/export.ts'
import type { Base } from '../../train/run_config.ts'
import { openAdapter, type TunableLayout } from '../../train/tunable.ts'
import type { ExportCheck, ExportFile } from '../protocol.ts'
import { asExported } from './exported.ts'
import type { Progress } from './model.ts'
import { type Hooks, Room } from './room.ts'

export interface ExportInput {
  readonly room: Room
  readonly layout: TunableLayout
  readonly state: State
  readonly seed: number
  readonly what: 'adapter' | 'merged'
  /** Name of the zip without its ending. */
  readonly name: string
  readonly manifest: Manifest | null
  /** Whose last position's logits are compared. */
  readonly prompt: { readonly text: string; readonly ids: readonly number[] }
  readonly onProgress: Progress
  readonly signal: AbortSignal
}

/** Largest difference of a logit that an export may show, absolute for logits up to 10 and relative to the largest beyond. An adapter is stored as it is, so only
 * the order of sums differs; merged weights are rounded as they are stored: by 2^-24, 2^-11 (F16) or 2^-8 (BF16) of their value. */
export const TOLERANCE = { adapter: 1e-3, F32: 1e-3, F16: 5e-2, BF16: 0.4 } as const

/** @throws RunError where it cannot be made, or differs from what is on the GPU. */
export async function makeExport(x: ExportInput): Promise<{ file: ExportFile; check: ExportCheck }> {
  const { bundle } = x.room
  const baseModel = bundle.files.name
  const items = await itemsOf(x, baseModel)
  const blob = await zipFiles(await zipInputs(items, x))
  const file = { name: `${fileName(x.name)}${x.what === 'merged' ? '-merged' : ''}.zip`, blob }
  x.signal.throwIfAborted()
  x.onProgress('Loading it back', items.length, items.length + 1, 'steps')
  const ours = await tunedLogits(x)
  const theirs = x.what === 'adapter' ? await adapterLogits(x, file) : await modelLogits(x, file)
  const maxAbsDiff = largestDifference(ours, theirs)
  const scale = Math.max(1, ours.reduce((m, v) => Math.max(m, Math.abs(v)), 0) / 10)
  const tolerance = toleranceOf(x.what, items, x.layout) * scale
  if (!(maxAbsDiff <= tolerance))
    throw new RunError('the export does not compute what was trained', {
      where: file.name,
      why: `Loaded back, its logits differ by ${maxAbsDiff.toPrecision(3)}; ${tolerance.toPrecision(2)} would be rounding`,
      fix: 'Please report this with the model and the method; the run itself is kept',
    })
  return { file, check: { maxAbsDiff, prompt: x.prompt.text } }
}

function itemsOf(x: ExportInput, baseModel: string): Promise<ExportItem[]> | ExportItem[] {
  const { layout, state, seed, manifest } = x
  const { bundle } = x.room
  if (x.what === 'merged')
    return modelFiles(bundle, layout.adapter ? { adapter: layout.adapter, state } : { trained: state }, { baseModel, manifest })
  if (!layout.adapter)
    throw new RunError('full fine-tuning makes no adapter', {
      why: 'Every weight of the model changed',
      fix: 'Export the model instead',
    })
  return adapterFiles(layout.adapter, state, { baseModel, seed, manifest })
}

async function zipInputs(items: readonly ExportItem[], { onProgress, signal }: ExportInput): Promise<ZipInput[]> {
  const out: ZipInput[] = []
  for (const item of items) {
    if (!('tensors' in item)) {
      out.push(item)
      continue
    }
    let done = 0
    const counted = item.tensors.map((t) => ({
      ...t,
      load: async () => {
        signal.throwIfAborted()
        const data = await t.load()
        onProgress(`Writing ${item.name}`, ++done, item.tensors.length, 'tensors')
        return data
      },
    }))
    out.push({ name: item.name, data: await safetensorsBlob(counted) })
  }
  return out
}

const fileName = (name: string): string => name.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replaceAll(/^[-.]+|-+$/g, '') || 'etude'

async function logitsOf(room: Room, t: TunableLayout, ids: readonly number[]): Promise<Float32Array> {
  return (await room.generator(t, ids.length, false)).logits(ids)
}

/** How frozen weights are kept so that an export is beside the values that it is made of: the file's. Null where the layout's are those, or where the export is
 * of nothing else than what the layout holds. */
function fileBase({ what, layout, room }: ExportInput): Base | null {
  const { bundle } = room
  const { base } = layout.o
  // An adapter beside shared weights is compared beside the same; what replaced some of them is left out of its export.
  const own = what === 'adapter' && layout.borrows
  if (!layout.adapter || own || holdsFile(bundle, base)) return null
  // Where keeping quantises again, f16 holds blocks to the 11 bits that merged weights are stored with.
  return holdsFile(bundle, 'keep') ? 'keep' : 'f16'
}

/** Of the layout as it is, or of its adapter over the file's own weights. */
async function tunedLogits(x: ExportInput): Promise<Float32Array> {
  const { room, layout, state, seed } = x
  const base = fileBase(x)
  if (!base) return logitsOf(room, layout, x.prompt.ids)
  const loaded = await asExported(room.bundle, layout.adapter!, state, seed)
  const own = new Room(room.gpu, room.bundle)
  try {
    const wanted = { method: loaded.method, options: loaded.options, base, seed, trainable: false, loaded } as const
    return await logitsOf(own, await own.layout(wanted, hooksOf(x)), x.prompt.ids)
  } finally {
    own.destroy()
  }
}

async function adapterLogits(x: ExportInput, file: ExportFile): Promise<Float32Array> {
  const { room, layout } = x
  const loaded = await openAdapter(room.bundle, await readAdapter(new Map([[file.name, fromBlob(file.blob, file.name)]])))
  // What a method kept in place of the frozen weights is left out of its export: it lies beside the file's own.
  const base = layout.borrows ? layout.o.base : (fileBase(x) ?? 'keep')
  const wanted = { method: loaded.method, options: loaded.options, base, seed: x.seed, trainable: false, loaded }
  const t = await room.layout(wanted, hooksOf(x))
  try {
    return await logitsOf(room, t, x.prompt.ids)
  } finally {
    room.release(t)
  }
}

async function modelLogits(x: ExportInput, file: ExportFile): Promise<Float32Array> {
  const { room, layout } = x
  const limits = { entries: 100, bytes: 2 * file.blob.size + 2 ** 20 }
  const bundle: ModelBundle = openBundle(await openModel(await unzipFiles(fromBlob(file.blob, file.name), limits), file.name))
  // A model of its own: it does not share the weights of the one that is loaded.
  const fresh = new Room(room.gpu, bundle)
  try {
    return await logitsOf(fresh, await fresh.base(layout.o.base === 'f16' ? 'f16' : 'keep', hooksOf(x)), x.prompt.ids)
  } finally {
    fresh.destroy()
  }
}

const hooksOf = ({ onProgress, signal }: ExportInput): Hooks => ({
  signal,
  onProgress: (label, done, total) => onProgress(label, done, total, 'bytes'),
})

function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Infinity
  let most = 0
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i] - b[i])
    if (!(d <= most)) most = d
    if (Number.isNaN(d)) return NaN
  }
  return most
}

function toleranceOf(what: 'adapter' | 'merged', items: readonly ExportItem[], layout: TunableLayout): number {
  if (what === 'adapter') return TOLERANCE.adapter
  const types = new Set(items.flatMap((i) => ('tensors' in i ? i.tensors.map((t) => t.type) : [])))
  if (types.has('BF16')) return TOLERANCE.BF16
  return types.has('F16') || layout.o.base === 'f16' ? TOLERANCE.F16 : TOLERANCE.F32
}
