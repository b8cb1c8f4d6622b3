/** @file Reads a model's parameters into their places on the GPU, slice by slice: memory holds a few megabytes of a tensor at a time, whatever the model's size. */
import type { Gpu } from '../gpu/device.ts'
import { trial } from '../gpu/trial.ts'
import { waitFor } from '../gpu/wait.ts'
import { encoder } from '../io/pack/encoder.ts'
import { layoutOf, weightOffset } from '../kernels/weight_formats.ts'
import type { MatrixPart, MatrixStore, Member, Place, VectorStore } from '../nn/store.ts'
import { type ModelBundle, readFloats, readRows, stored } from './bundle.ts'
import { refuser, rowsAtOnce } from './host_weights.ts'
import type { StoreLayout } from './model_store.ts'
import type { ParamSet } from './param_set.ts'
import { refusalOf } from './refusals.ts'

export interface FillOptions {
  /** Where something was taken out of frozen weights: what is left of the rows of a module's from row `first` on. Null for a module that is as it was. */
  readonly remainder: (module: string) => ((rows: Float32Array<ArrayBuffer>, first: number) => Float32Array<ArrayBuffer>) | null
  /** Bytes of the file that were read, and its size. */
  readonly onProgress?: (bytes: number, total: number) => void
  readonly signal?: AbortSignal
}

/** What may be on its way to the GPU before it is waited for, in bytes: the copies in between are memory, too. */
const IN_FLIGHT = 32 * 2 ** 20

interface Fill extends FillOptions {
  readonly gpu: Gpu
  readonly b: ModelBundle
  /** Writes, now and then waiting until all of it has arrived. */
  write(place: Place, data: ArrayBufferView<ArrayBuffer>, byteOffset: number): Promise<void>
  /** Count bytes of the file as read. Throws the signal's reason. */
  read(bytes: number): void
}

/** Allocate the buffers and read every parameter into its place. Frees what it made when it fails or is cancelled. */
export async function fillStore(gpu: Gpu, b: ModelBundle, layout: StoreLayout, trained: ParamSet | null, o: FillOptions): Promise<void> {
  const { store } = layout
  const tables = [store.embedding, store.head, store.positions].filter((m) => m !== null)
  const total = b.files.fileBytes
  let [done, pending] = [0, 0]
  const fill: Fill = {
    ...o,
    gpu,
    b,
    write: async (place, data, byteOffset) => {
      place.storage.write(data, place.byteOffset + byteOffset)
      pending += data.byteLength
      if (pending < IN_FLIGHT) return
      pending = 0
      await waitFor(gpu.device.queue.onSubmittedWorkDone())
    },
    read: (bytes) => {
      done += bytes
      o.onProgress?.(Math.min(done, total), total)
      o.signal?.throwIfAborted()
    },
  }
  try {
    o.signal?.throwIfAborted()
    await allocate(gpu, layout, trained)
    for (const m of tables) await fillMatrix(fill, m, m.members[0], m.members[0].name)
    for (const m of [...store.groups.values()].flat())
      for (const member of m.members) await fillMatrix(fill, m, member, `${member.name}.weight`)
    for (const [name, v] of store.vectors) await fillVector(fill, name, v)
    await waitFor(gpu.device.queue.onSubmittedWorkDone())
    o.signal?.throwIfAborted()
  } catch (e) {
    for (const s of layout.storages) s.destroy()
    trained?.destroy()
    throw e
  }
}

/** Class by class, so that what is said is about what there was no room for. */
async function allocate(gpu: Gpu, layout: StoreLayout, trained: ParamSet | null): Promise<void> {
  const storages = [...layout.storages, ...(trained?.storages() ?? [])]
  for (const memory of ['weights', 'adapter', 'optimizer'] as const) {
    const made = storages.filter((s) => s.memory === memory)
    const bytes = made.reduce((n, s) => n + s.bytes, 0)
    await trial(gpu, refusalOf(memory, bytes, { trainsWeights: trained !== null }), () => made.forEach((s) => s.allocate(gpu)))
  }
}

async function fillMatrix(f: Fill, m: MatrixStore, member: Member, name: string): Promise<void> {
  for (const part of m.parts ?? [{ first: 0, rows: m.rows, data: m.data, scales: m.scales }]) {
    // A table in parts has one member.
    const span = m.parts ? part : { first: 0, rows: member.rows }
    await fillPart(f, m, part, member, name, span, m.parts ? 0 : member.from)
  }
}

/** Rows `span` of a tensor, to row `to` of a part on. */
async function fillPart(
  f: Fill,
  m: MatrixStore,
  part: MatrixPart,
  member: Member,
  name: string,
  span: { readonly first: number; readonly rows: number },
  to: number,
): Promise<void> {
  const { b } = f
  const t = stored(b, name, [member.rows, m.cols])
  const remainder = f.remainder(member.name)
  const step = rowsAtOnce(m.format, m.cols)
  let row = span.first
  const encode = encoder(
    remainder ? 'F32' : t.type,
    m.format,
    refuser(b, name, () => row * m.cols),
  )
  for (; row < span.first + span.rows; row += step) {
    const rows = Math.min(step, span.first + span.rows - row)
    const bytes = remainder ? bytesOf(remainder(await readFloats(b, name, t.shape, row, rows), row)) : await readRows(b, t, name, row, rows)
    const { data, scales } = encode.slice(bytes, rows * m.cols)
    const at = weightOffset(m.format, (to + row - span.first) * m.cols)
    await f.write(part.data, data, at.data)
    if (scales) await f.write(part.scales!, scales, at.scales)
    f.read((t.bytes / member.rows) * rows)
  }
  const scales = encode.end()
  if (scales) await writeTensorScales(f, m, part, scales, to * m.cols)
}

/** Scales that came for a whole tensor: its header is the matrix's, what follows belongs where its weights lie. */
async function writeTensorScales(
  f: Fill,
  m: MatrixStore,
  part: MatrixPart,
  scales: ArrayBufferView<ArrayBuffer>,
  at: number,
): Promise<void> {
  const header = layoutOf(m.format).header ?? 0
  const words = new Uint8Array(scales.buffer, scales.byteOffset, scales.byteLength)
  await f.write(part.scales!, words.subarray(0, header), 0)
  await f.write(part.scales!, words.subarray(header), weightOffset(m.format, at).scales)
}

const bytesOf = (values: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

/** A norm's weight, or the biases of a fused layer, one after another. */
async function fillVector(f: Fill, name: string, v: VectorStore): Promise<void> {
  const { b } = f
  const own = b.params.find((p) => p.kind === 'vector' && p.name === name)
  const biases = (): string[] =>
    name
      .slice(0, -'.bias'.length)
      .split(' | ')
      .map((m) => `${m}.bias`)
  let offset = 0
  for (const part of own ? [name] : biases()) {
    const p = own ?? b.params.find((q) => q.kind === 'linear' && `${q.name}.bias` === part)
    if (!p || p.kind === 'table') throw new Error(`no parameter ${part}`)
    const values = await readFloats(b, part, [p.kind === 'linear' ? p.rows : p.size])
    await f.write(v.data, values, offset * 4)
    f.read(values.byteLength)
    offset += values.length
  }
}
