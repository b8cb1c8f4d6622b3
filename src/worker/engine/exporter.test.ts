/** Exports of models whose weights are not on the GPU as the file has them: what is compared is beside the file's values, as the export is. */
import { expect, test } from 'vitest'
import { gpu, randn } from '../../../test/gpu.ts'
import { storedBundle } from '../../../test/stored.ts'
import type { StorageType } from '../../io/source.ts'
import type { Json } from '../../peft/method.ts'
import { numel } from '../../tensor/graph.ts'
import type { Base } from '../../train/run_config.ts'
import { findMethod } from '../../train/tunable.ts'
import { type ExportInput, makeExport } from './exporter.ts'
import { Room } from './room.ts'

/** Exports an adapter that training has moved; returns the largest difference of a logit. */
async function difference(o: {
  linear: StorageType
  table: StorageType
  base: Base
  method: string
  options: Json
  what: ExportInput['what']
}): Promise<number> {
  const room = new Room(gpu, await storedBundle(o.linear, o.table))
  const { base, options } = o
  try {
    const layout = await room.layout({ method: findMethod(o.method), options, base, seed: 3, trainable: true, loaded: null })
    const start = await layout.adapter!.params.read()
    const state = new Map(
      [...start].map(([key, { shape, data }], i) => {
        const noise = randn([numel(shape)], i, 0.02)
        return [key, { shape, data: data.map((v, j) => v + noise[j]) }] as const
      }),
    )
    layout.adapter!.write(state)
    const { check } = await makeExport({
      room,
      layout,
      state,
      seed: 3,
      what: o.what,
      name: 'test',
      manifest: null,
      prompt: { text: 'x', ids: [5, 9, 3, 40, 2] },
      onProgress: () => undefined,
      signal: new AbortController().signal,
    })
    return check.maxAbsDiff
  } finally {
    room.destroy()
  }
}

test.each([
  ['blocks beside a table that becomes 8-bit blocks', 'Q4_0', 'F16', 'keep', {}],
  ['blocks that no kernel reads', 'Q3_K', 'Q8_0', 'keep', {}],
  ['quantised on load', 'F16', 'F16', 'nf4', {}],
  ['rounded on load', 'F32', 'F32', 'f16', {}],
  [
    'quantised on load, what PiSSA leaves kept as f32',
    'F16',
    'F16',
    'nf4',
    { init_lora_weights: 'pissa', target_modules: ['q_proj', 'v_proj'] },
  ],
  ['nothing of these', 'F32', 'F32', 'keep', {}],
] as const)('%s: %s with a table of %s as %s', async (_, linear, table, base, options) => {
  const before = gpu.allocatedBytes
  for (const what of ['adapter', 'merged'] as const) {
    const found = await difference({ linear, table, base, method: 'lora', options: { r: 4, ...options }, what })
    console.log(`${linear} as ${base}, ${what}: ${found.toExponential(1)}`)
    // Sums in another order, and for merged weights the rounding to what they are stored as: never a quantisation, which is 1e-2 and more.
    expect(found).toBeLessThan(2e-3)
  }
  expect(gpu.allocatedBytes).toBe(before)
})
