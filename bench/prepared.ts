/** @file The engine's device as the product uses it: paths that it gets wrong are switched off, and on a GPU its products are tuned. Found once a run of the bench. */
import { Gpu } from '../src/gpu/device.ts'
import type { TunedMatmul } from '../src/gpu/kernel.ts'
import { prepareDevice, type ProfileStore } from '../src/train/device_profile.ts'
import { rateRow, type Row } from './report.ts'

const found = new Map<string, string>()
/** Kept as long as the run: a bench measures anew. */
const STORE: ProfileStore = {
  read: async (name) => found.get(name) ?? null,
  write: async (name, text) => {
    found.set(name, text)
  },
}

/** As src/kernels/tune.ts chooses: family and sizes. */
const choiceText = (t: TunedMatmul): string =>
  t.family === 'sgk' ? `sgk, ${t.TM} rows × ${t.V}` : `${t.family} ${t.BM}×${t.BN}×${t.BK}, ${t.TM}×${t.TN} each`

/** A device of its own, and the row `tuning`; null where nothing was tuned (on software adapters) and nothing switched off. */
export async function preparedGpu(): Promise<{ readonly gpu: Gpu; readonly row: Row | null }> {
  const gpu = await Gpu.request(navigator.gpu)
  const { tuned, notes } = await prepareDevice(gpu, { store: STORE, browser: 'bench', tune: 'auto' })
  const { matmuls = {}, dotFaster } = gpu.traits
  const choices = {
    ...Object.fromEntries(Object.entries(matmuls).map(([name, t]) => [name, choiceText(t)])),
    ...(dotFaster !== undefined && { 'new tokens': dotFaster ? 'packed products' : 'floats' }),
  }
  if (!tuned && notes.length === 0) return { gpu, row: null }
  return { gpu, row: rateRow('tuning', 'etude', tuned?.ms ?? 0, { rounds: tuned ? 1 : 0, choices, notes }) }
}
