/** @file A model's parameters on the GPU: laid out from the config and the stored types alone (so that a plan needs no weights), then filled. */
import { GpuError } from '../errors.ts'
import type { Gpu } from '../gpu/device.ts'
import { toFloat32 } from '../io/dequantize.ts'
import { quantizeQ8 } from '../io/quantize.ts'
import { isPackable, packF16, repack } from '../io/repack.ts'
import type { StorageType } from '../io/source.ts'
import type { Param } from '../models/family.ts'
import type { MatrixStore, Member, ModelStore, Place, VectorStore } from '../nn/store.ts'
import { Storage } from '../tensor/storage.ts'
import { type WeightFormat, weightBytes } from '../tensor/weight.ts'
import { type ModelBundle, paramShape, readFloats, readRows, requireFinite, stored, tensorName } from './bundle.ts'
import type { Entry, ParamSet } from './param_set.ts'

export interface StoreOptions {
  /** How floating-point matrices are kept. */
  readonly dtype: 'f32' | 'f16'
  /** Every parameter is trained: they lie in this set, as f32. */
  readonly trained: ParamSet | null
  /** Modules whose frozen weight will be replaced by f32 values. */
  readonly replaced: ReadonlySet<string>
  readonly maxBindingSize: number
}
type Linear = Extract<Param, { kind: 'linear' }>
interface MatrixSpec {
  readonly members: readonly Member[]
  readonly cols: number
  readonly format: WeightFormat
  readonly use: { readonly group: string } | 'embedding' | 'head' | 'position'
}
export interface StoreLayout {
  readonly store: ModelStore
  /** Buffers of frozen parameters; trained ones belong to their set. */
  readonly storages: readonly Storage[]
  /** Conversions on load, to be shown. */
  readonly notes: readonly string[]
}

/** Format on the GPU of a stored matrix: blocks stay blocks, K-quants become 8-bit blocks. */
function formatOf(type: StorageType, cols: number, dtype: 'f32' | 'f16'): WeightFormat {
  if (type === 'F64' || type === 'F32' || type === 'F16' || type === 'BF16') return dtype
  if (isPackable(type)) return type === 'Q8_0' ? 'q8' : 'q4'
  return cols % 32 === 0 ? 'q8' : dtype
}

/** Matrices: members of a group are fused while they share a format and fit one binding. */
function matrixSpecs(b: ModelBundle, o: StoreOptions): MatrixSpec[] {
  const format = (p: Exclude<Param, { kind: 'vector' }>): WeightFormat =>
    o.trained || o.replaced.has(p.name) ? 'f32' : formatOf(stored(b, tensorName(p), paramShape(p)).type, p.cols, o.dtype)
  const specs: MatrixSpec[] = []
  const groups = new Map<string, Linear[]>()
  for (const p of b.params) {
    if (p.kind === 'table') specs.push({ members: [{ name: p.name, from: 0, rows: p.rows }], cols: p.cols, format: format(p), use: p.use })
    if (p.kind === 'linear') groups.set(p.group, [...(groups.get(p.group) ?? []), p])
  }
  for (const [group, params] of groups) {
    const { cols } = params[0]
    const formats = params.map(format)
    const rows = params.reduce((n, p) => n + p.rows, 0)
    const fused = formats.every((f) => f === formats[0]) && weightBytes(formats[0], rows, cols).data <= o.maxBindingSize
    let from = 0
    const members = params.map((p) => ({ name: p.name, from: (from += p.rows) - p.rows, rows: p.rows }))
    if (fused) specs.push({ members, cols, format: formats[0], use: { group } })
    else
      params.forEach((p, i) => specs.push({ members: [{ name: p.name, from: 0, rows: p.rows }], cols, format: formats[i], use: { group } }))
  }
  return specs
}

const weightName = (s: MatrixSpec, m: Member): string => (typeof s.use === 'string' ? m.name : `${m.name}.weight`)

/** Where every parameter will lie. Allocates nothing. */
export function layoutStore(b: ModelBundle, o: StoreOptions): StoreLayout {
  const storages: Storage[] = []
  const specs = matrixSpecs(b, o)
  const linears = new Map(b.params.flatMap((p) => (p.kind === 'linear' ? [[p.name, p] as const] : [])))
  const biased = (s: MatrixSpec): boolean => linears.get(s.members[0].name)?.bias === true
  const vectors = [
    ...b.params.flatMap((p) => (p.kind === 'vector' ? [{ name: p.name, members: [{ name: p.name, rows: p.size }] }] : [])),
    ...specs.filter(biased).map((s) => ({ name: biasName(s), members: s.members.map((m) => ({ name: `${m.name}.bias`, rows: m.rows })) })),
  ]
  // All of a trained set's entries come first: its buffers exist once its layout is final.
  const matrixEntries =
    o.trained && specs.map((s) => o.trained!.add(s.members.map((m) => ({ key: weightName(s, m), shape: [m.rows, s.cols], lr: 1 }))))
  const vectorEntries = o.trained && vectors.map((v) => o.trained!.add(v.members.map((m) => ({ key: m.name, shape: [m.rows], lr: 1 }))))
  const place = (entry: Entry | undefined, label: string, bytes: number): { data: Place; gradient: Place | null } => {
    if (o.trained && entry) return { data: o.trained.place(entry), gradient: o.trained.gradient(entry) }
    const storage = new Storage(label, bytes, 'weights')
    storages.push(storage)
    return { data: { storage, byteOffset: 0 }, gradient: null }
  }
  const vectorStores = new Map<string, VectorStore>(
    vectors.map((v, i) => {
      const size = v.members.reduce((n, m) => n + m.rows, 0)
      return [v.name, { size, ...place(vectorEntries?.[i], v.name, size * 4) }]
    }),
  )
  const matrices = specs.map((s, i): MatrixStore => {
    const rows = s.members.reduce((n, m) => n + m.rows, 0)
    const bytes = weightBytes(s.format, rows, s.cols)
    const label = s.members.map((m) => m.name).join(' | ')
    const main = place(matrixEntries?.[i], label, bytes.data)
    const scales = bytes.scales > 0 ? place(undefined, `${label}, scales`, bytes.scales).data : null
    return {
      format: s.format,
      rows,
      cols: s.cols,
      members: s.members,
      scales,
      bias: biased(s) ? vectorStores.get(biasName(s))! : null,
      ...main,
    }
  })
  const of = (use: MatrixSpec['use']): MatrixStore | null => matrices.find((_, i) => specs[i].use === use) ?? null
  const groups = new Map<string, MatrixStore[]>()
  specs.forEach(({ use }, i) => {
    if (typeof use !== 'string') groups.set(use.group, [...(groups.get(use.group) ?? []), matrices[i]])
  })
  return {
    store: { groups, vectors: vectorStores, embedding: of('embedding')!, head: of('head'), positions: of('position') },
    storages,
    notes: conversionNotes(b, specs),
  }
}
const biasName = (s: MatrixSpec): string => `${s.members.map((m) => m.name).join(' | ')}.bias`

function conversionNotes(b: ModelBundle, specs: readonly MatrixSpec[]): string[] {
  const types = new Set<StorageType>()
  for (const s of specs)
    for (const m of s.members) {
      const { type } = stored(b, weightName(s, m), [m.rows, s.cols])
      if (s.format === 'q8' && type !== 'Q8_0') types.add(type)
    }
  return types.size > 0
    ? [`${[...types].join(', ')} weights are kept as 8-bit blocks: this studio computes with 4-bit (Q4_0, Q4_1) and 8-bit blocks.`]
    : []
}

export interface FillOptions {
  /** New values of frozen modules, by module path. */
  readonly replacements: ReadonlyMap<string, Float32Array<ArrayBuffer>>
  readonly onProgress?: (bytes: number, total: number) => void
  readonly signal?: AbortSignal
}

/** Allocate the buffers and read every parameter into its place. Frees what it made when it fails or is cancelled. */
export async function fillStore(gpu: Gpu, b: ModelBundle, layout: StoreLayout, trained: ParamSet | null, o: FillOptions): Promise<void> {
  const { store } = layout
  const tables = new Set([store.embedding, store.head, store.positions].filter((m) => m !== null))
  const matrices = [...tables, ...[...store.groups.values()].flat()]
  const total = b.files.fileBytes
  let done = 0
  gpu.device.pushErrorScope('out-of-memory')
  let scoped = true
  const checkMemory = async (): Promise<void> => {
    scoped = false
    const error = await gpu.device.popErrorScope()
    if (error)
      throw new GpuError('the GPU has no room for the weights', {
        where: b.files.name,
        why: error.message,
        fix: 'Close other tabs that use the GPU, keep frozen weights as f16, or use a smaller or more strongly quantised model',
      })
  }
  try {
    for (const s of layout.storages) s.allocate(gpu)
    if (trained) for (const s of trained.storages()) s.allocate(gpu)
    await checkMemory()
    for (const m of matrices)
      for (const member of m.members) {
        o.signal?.throwIfAborted()
        const name = tables.has(m) ? member.name : `${member.name}.weight`
        await fillMatrix(b, m, member, name, o.replacements.get(member.name) ?? null)
        done += stored(b, name, [member.rows, m.cols]).bytes
        o.onProgress?.(Math.min(done, total), total)
      }
    for (const [name, v] of store.vectors) await fillVector(b, name, v)
  } catch (e) {
    if (scoped) void gpu.device.popErrorScope()
    for (const s of layout.storages) s.destroy()
    trained?.destroy()
    throw e
  }
}

/** Rows read at once: about 16 MB of values, in whole blocks. */
const rowsAtOnce = (cols: number): number => Math.max(64, Math.floor((4 << 20) / cols / 64) * 64)

async function fillMatrix(
  b: ModelBundle,
  m: MatrixStore,
  member: Member,
  name: string,
  replacement: Float32Array<ArrayBuffer> | null,
): Promise<void> {
  const t = stored(b, name, [member.rows, m.cols])
  const write = (place: Place, data: ArrayBufferView<ArrayBuffer>, byte: number) => place.storage.write(data, place.byteOffset + byte)
  const step = b.files.kind === 'gguf' && b.family.ggufRowOrder(name, b.config) ? member.rows : rowsAtOnce(m.cols)
  for (let row = 0; row < member.rows; row += step) {
    const rows = Math.min(step, member.rows - row)
    const count = rows * m.cols
    const at = (member.from + row) * m.cols
    if ((m.format === 'q4' || m.format === 'q8') && isPackable(t.type)) {
      const bytes = await readRows(b, t, name, row, rows)
      const packed = t.type === 'Q8_0' ? repack(t.type, bytes, count) : repack(t.type, bytes, count)
      if (packed.format === 'q8') requireFinite(packed.scales, name, b.files.name)
      write(m.data, packed.quants, m.format === 'q4' ? at / 2 : at)
      write(m.scales!, packed.scales, at / 8)
      continue
    }
    const values = replacement
      ? replacement.subarray(row * m.cols, row * m.cols + count)
      : toFloat32(t.type, await readRows(b, t, name, row, rows), count)
    requireFinite(values, name, b.files.name)
    if (m.format === 'q8') {
      const { quants, scales } = quantizeQ8(values)
      write(m.data, quants, at)
      write(m.scales!, scales, at / 8)
    } else if (m.format === 'f16') write(m.data, packF16(values), at * 2)
    else write(m.data, values, at * 4)
  }
}

/** A norm's weight, or the biases of a fused layer, one after another. */
async function fillVector(b: ModelBundle, name: string, v: VectorStore): Promise<void> {
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
    v.data.storage.write(values, v.data.byteOffset + offset * 4)
    offset += values.length
  }
}
