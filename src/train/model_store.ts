/** @file Where a model's parameters lie on the GPU: from the config and the stored types alone, so that a plan needs no weights. Filled by fill_store.ts. */
import { OptionError } from '../errors.ts'
import { layoutOf, tableStep, weightBytes, type WeightFormat } from '../kernels/weight_formats.ts'
import type { Param } from '../models/family.ts'
import type { MatrixPart, MatrixStore, Member, ModelStore, Place, VectorStore } from '../nn/store.ts'
import { Storage } from '../tensor/storage.ts'
import { conversionNotes, matrixFormats } from './base_formats.ts'
import type { ModelBundle } from './bundle.ts'
import type { Entry, ParamSet } from './param_set.ts'
import type { Base } from './run_config.ts'

export interface StoreOptions {
  /** How frozen matrices are kept. */
  readonly base: Base
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

/** Largest buffer of a frozen table, in bytes: what every device can bind. */
const TABLE_BYTES = 128 * 2 ** 20

/** Matrices: members of a group are fused while they share a format, fit one binding and begin at a unit of it. */
function matrixSpecs(b: ModelBundle, o: StoreOptions): MatrixSpec[] {
  const frozen = matrixFormats(b, o.base)
  const format = (p: Exclude<Param, { kind: 'vector' }>): WeightFormat => (o.trained || o.replaced.has(p.name) ? 'f32' : frozen(p))
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
    let from = 0
    const members = params.map((p) => ({ name: p.name, from: (from += p.rows) - p.rows, rows: p.rows }))
    const fused =
      formats.every((f) => f === formats[0]) &&
      weightBytes(formats[0], rows, cols).data <= o.maxBindingSize &&
      members.every((m) => (m.from * cols) % layoutOf(formats[0]).unit === 0)
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
    const label = s.members.map((m) => m.name).join(' | ')
    const entry = matrixEntries?.[i]
    /** Rows of it in buffers of their own. */
    const piece = (first: number, count: number): MatrixPart & { gradient: Place | null } => {
      const bytes = weightBytes(s.format, count, s.cols)
      const name = count === rows ? label : `${label}, rows ${first} to ${first + count}`
      const main = place(entry, name, bytes.data)
      return { first, rows: count, scales: bytes.scales > 0 ? place(undefined, `${name}, scales`, bytes.scales).data : null, ...main }
    }
    const step =
      entry || typeof s.use !== 'string' ? rows : Math.min(rows, tableStep(s.format, s.cols, Math.min(TABLE_BYTES, o.maxBindingSize)))
    const pieces = Array.from({ length: Math.ceil(rows / step) }, (_, j) => piece(j * step, Math.min(step, rows - j * step)))
    return {
      format: s.format,
      rows,
      cols: s.cols,
      members: s.members,
      bias: biased(s) ? vectorStores.get(biasName(s))! : null,
      data: pieces[0].data,
      scales: pieces[0].scales,
      gradient: pieces[0].gradient,
      parts: pieces.length > 1 ? pieces : null,
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
    notes: o.trained ? [] : conversionNotes(b, o.base),
  }
}

/** Throws OptionError naming the first frozen matrix or vector that one binding cannot hold. Tables lie in parts that can be bound. */
export function requireBindable({ storages }: StoreLayout, base: Base, maxBindingSize: number): void {
  const large = storages.find((s) => s.bytes > maxBindingSize)
  if (large)
    throw new OptionError(`it takes ${large.bytes} bytes with the base "${base}", and this GPU binds at most ${maxBindingSize} at once`, {
      where: large.label,
      why: 'A product reads a matrix whole: it would leave out the rest of it',
      fix: 'Keep the frozen weights in fewer bits (base q8 or nf4), use a smaller model, or a GPU with larger bindings',
    })
}
const biasName = (s: MatrixSpec): string => `${s.members.map((m) => m.name).join(' | ')}.bias`
