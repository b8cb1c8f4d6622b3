/** @file What is known of a device: paths that it gets wrong, its fastest matmuls, and whether packed products are faster. Found once for an adapter and a browser, kept in storage. */
import type { Gpu, GpuTraits } from '../gpu/device.ts'
import type { TunedMatmul } from '../gpu/kernel.ts'
import { isObject } from '../io/json.ts'
import { tuneMatmuls } from '../kernels/tune.ts'
import { VERSION } from './export.ts'
import { selfCheck } from './self_check.ts'
import { dotIsFaster } from './tune_dot.ts'

/** ms that all measurements together may take. */
const LIMIT = 3000

/** Where a profile is kept, by name; null where it is not there. Failing is no reason to stop: it is found anew. */
export interface ProfileStore {
  read(name: string): Promise<string | null>
  write(name: string, text: string): Promise<void>
}
export interface ProfileOptions {
  readonly store: ProfileStore | null
  /** Name and version of the browser (or of Node): its compiler is part of what was measured. */
  readonly browser: string
  /** `auto`: on GPUs; a software adapter's time is better spent on the run. */
  readonly tune: boolean | 'auto'
}
export interface DeviceNotes {
  /** A line for each path that is switched off. */
  readonly notes: readonly string[]
  /** Classes of products that were tuned, and how long it took, in ms; null: not tuned. */
  readonly tuned: { readonly classes: number; readonly ms: number } | null
  /** Whether all of it came from storage. */
  readonly stored: boolean
}
interface Profile extends Omit<DeviceNotes, 'stored'> {
  readonly off: Partial<GpuTraits>
  readonly matmuls: Readonly<Record<string, TunedMatmul>> | null
  /** Of packed products in generation; absent: not measured. */
  readonly dotFaster?: boolean
}

/** Check the device and tune it, or take what is stored, and let it be used so from here on. Throws nothing. */
export async function prepareDevice(gpu: Gpu, { store, browser, tune }: ProfileOptions): Promise<DeviceNotes> {
  const wanted = tune === 'auto' ? !gpu.traits.software : tune
  const name = await nameOf(gpu.traits, browser)
  const kept = parse(await store?.read(name).catch(() => null))
  const found = kept && (kept.matmuls || !wanted) ? kept : await measure(gpu, wanted, kept)
  gpu.adopt({ ...(wanted && found.matmuls && { matmuls: found.matmuls, dotFaster: found.dotFaster === true }), ...found.off })
  if (found !== kept) await store?.write(name, JSON.stringify(found)).catch(() => undefined)
  return { notes: found.notes, tuned: wanted ? found.tuned : null, stored: found === kept }
}

async function measure(gpu: Gpu, tune: boolean, kept: Profile | null): Promise<Profile> {
  const first = kept ?? (await selfCheck(gpu))
  gpu.adopt(first.off)
  if (!tune) return { off: first.off, notes: first.notes, tuned: null, matmuls: null }
  const began = performance.now()
  const dotFaster = (await dotIsFaster(gpu)) ?? false
  const { matmuls } = await tuneMatmuls(gpu, { limit: LIMIT - (performance.now() - began) })
  const ms = performance.now() - began
  gpu.adopt({ matmuls })
  // What won is checked, too.
  const second = await selfCheck(gpu)
  const off = { ...first.off, ...second.off }
  return { off, notes: [...first.notes, ...second.notes], tuned: { classes: Object.keys(matmuls).length, ms }, matmuls, dotFaster }
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
    if (!isObject(p) || !isObject(p.off) || !Array.isArray(p.notes) || !p.notes.every((n) => typeof n === 'string')) return null
    const matmuls = isObject(p.matmuls) ? p.matmuls : null
    if (matmuls && !Object.values(matmuls).every(isTuned)) return null
    return p as unknown as Profile
  } catch {
    return null
  }
}
function isTuned(m: unknown): m is TunedMatmul {
  if (!isObject(m)) return false
  const sizes = m.family === 'tile' || m.family === 'matrix' ? [m.BM, m.BN, m.BK, m.TM, m.TN] : m.family === 'sgk' ? [m.TM, m.V] : [0]
  return sizes.every((n) => Number.isInteger(n) && Number(n) > 0)
}
