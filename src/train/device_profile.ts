/** @file What is known of a device: paths that it gets wrong, looked for at every start; its fastest matmuls and whether packed products are faster, measured
 * once for an adapter and a browser and kept in storage. */
import type { Gpu, GpuTraits } from '../gpu/device.ts'
import type { TunedMatmul } from '../gpu/kernel.ts'
import { isObject } from '../io/json.ts'
import { tuneMatmuls } from '../kernels/tune.ts'
import { VERSION } from './export.ts'
import { checkTuned, selfCheck } from './self_check.ts'
import { dotIsFaster } from './tune_dot.ts'

/** ms that all measurements of one start together may take. What they do not come to is measured at the next. */
const LIMIT = 3000

/** Where a profile is kept, by name; null where it is not there. Failing is no reason to stop: it is found anew. */
export interface ProfileStore {
  read(name: string): Promise<string | null>
  write(name: string, text: string): Promise<void>
}
/** Whether products may be measured. `auto`: on GPUs; a software adapter's time is better spent on the run. `stored`: what is kept is used, nothing is measured. */
export type Tune = boolean | 'auto' | 'stored'
export interface ProfileOptions {
  readonly store: ProfileStore | null
  /** Name and version of the browser (or of Node, and of what brings WebGPU to it): its compiler is part of what was measured. */
  readonly browser: string
  readonly tune: Tune
  /** Ends the measurements with what they have found, which is then not kept: the next start measures again. */
  readonly signal?: AbortSignal
  /** Called as measurements begin. */
  readonly onTuning?: () => void
  readonly limit?: number
}
export interface DeviceNotes {
  /** A line for each path that is switched off. */
  readonly notes: readonly string[]
  /** Classes of products that were tuned, and how long it took, in ms; null: not tuned. */
  readonly tuned: { readonly classes: number; readonly ms: number } | null
  /** Whether nothing had to be measured. */
  readonly stored: boolean
}
interface Profile {
  readonly matmuls: Readonly<Record<string, TunedMatmul>>
  /** Of packed products in generation; null: not known yet. */
  readonly dotFaster: boolean | null
  /** Whether all of it was come to. */
  readonly complete: boolean
  /** That it took. */
  readonly ms: number
}
const NOTHING: Profile = { matmuls: {}, dotFaster: null, complete: false, ms: 0 }

/** Check the device, tune it or take what is stored, and let it be used so from here on. Throws nothing. */
export async function prepareDevice(
  gpu: Gpu,
  { store, browser, tune, signal, onTuning, limit = LIMIT }: ProfileOptions,
): Promise<DeviceNotes> {
  const { off, notes } = await selfCheck(gpu)
  gpu.adopt(off)
  if (tune === false || (tune !== true && gpu.traits.software)) return { notes, tuned: null, stored: false }
  const name = await nameOf(gpu.traits, browser)
  const kept = parse(await store?.read(name).catch(() => null))
  if (tune === 'stored' && !kept) return { notes, tuned: null, stored: false }
  const enough = kept && (kept.complete || tune === 'stored')
  if (!enough) onTuning?.()
  const found = enough ? kept : await measure(gpu, kept ?? NOTHING, limit, signal)
  gpu.adopt({ matmuls: found.matmuls, dotFaster: found.dotFaster === true })
  const second = await checkTuned(gpu)
  gpu.adopt(second.off)
  if (found !== kept && !signal?.aborted) await store?.write(name, JSON.stringify(found)).catch(() => undefined)
  const tuned = { classes: Object.keys(gpu.traits.matmuls ?? {}).length, ms: found.ms }
  return { notes: [...notes, ...second.notes], tuned, stored: found === kept }
}

async function measure(gpu: Gpu, known: Profile, limit: number, signal: AbortSignal | undefined): Promise<Profile> {
  const began = performance.now()
  const left = (): number => (signal?.aborted ? 0 : limit - (performance.now() - began))
  const measured = known.dotFaster ?? (await dotIsFaster(gpu, { limit: Math.min(500, left()), ...(signal && { signal }) }))
  // Not known at the second start either: it would take too long at every one.
  const dotFaster = measured ?? (known.ms > 0 ? false : null)
  const { matmuls, complete } = await tuneMatmuls(gpu, { limit: left(), known: known.matmuls, ...(signal && { signal }) })
  return { matmuls, dotFaster, complete: complete && (dotFaster !== null || !gpu.traits.dot), ms: known.ms + performance.now() - began }
}

/** Everything that the results depend on, as the name of a file. */
async function nameOf(t: GpuTraits, browser: string): Promise<string> {
  const facts = [
    VERSION,
    browser,
    t.vendor,
    t.architecture,
    t.description,
    t.subgroupMin,
    t.subgroupMax,
    t.subgroup,
    t.f16,
    t.maxBindingSize,
    t.storageBuffers,
    t.immediates,
    JSON.stringify(t.matrix),
    t.dot,
  ]
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(facts.join('|')))
  return `${[...new Uint8Array(hash).subarray(0, 12)].map((b) => b.toString(16).padStart(2, '0')).join('')}.json`
}

/** What is damaged or of another kind is as good as not there. */
function parse(text: string | null | undefined): Profile | null {
  try {
    const p: unknown = JSON.parse(text ?? '')
    if (!isObject(p) || !isObject(p.matmuls) || typeof p.complete !== 'boolean' || typeof p.ms !== 'number') return null
    if (p.dotFaster !== null && typeof p.dotFaster !== 'boolean') return null
    return Object.values(p.matmuls).every(isTuned) ? (p as unknown as Profile) : null
  } catch {
    return null
  }
}
function isTuned(m: unknown): m is TunedMatmul {
  if (!isObject(m)) return false
  const sizes = ['tile', 'matrix', 'reg'].includes(String(m.family))
    ? [m.BM, m.BN, m.BK, m.TM, m.TN]
    : m.family === 'sgk'
      ? [m.TM, m.V]
      : [0]
  return sizes.every((n) => Number.isInteger(n) && Number(n) > 0)
}
