/** @file What a step costs as it grows: the bench model's LoRA step against the length of rows, their number, and the rank. */
import type { Gpu } from '../src/gpu/device.ts'
import { benchBundle } from './etude.ts'
import { benchLora, RANK } from './lora.ts'
import { makeWeights } from './model.ts'
import type { Peak } from './peak.ts'
import type { Row, Say } from './report.ts'

const SWEEPS: Readonly<Record<string, readonly { readonly batch: number; readonly seq: number; readonly rank: number }[]>> = {
  'sweep-sequence': [32, 64, 128, 256, 512, 1024, 2048].map((seq) => ({ batch: 1, seq, rank: RANK })),
  'sweep-batch': [1, 2, 4, 8, 16].map((batch) => ({ batch, seq: 128, rank: RANK })),
  'sweep-rank': [2, 4, 8, 32, 128].map((rank) => ({ batch: 4, seq: 128, rank })),
}

/** A size that needs kernels of its own compiles them in its first step, and for a while after that the driver and the browser are still busy putting them away: a step of 30 ms
 * was measured at three times that. */
const WARM_UP = { warmUp: 3, warmUpMs: 1000 } as const

export async function benchSweeps(gpu: Gpu, o: { readonly rounds: number; readonly peak: Peak; readonly say: Say }): Promise<Row[]> {
  const bundle = await benchBundle(makeWeights())
  const rows: Row[] = []
  for (const [name, points] of Object.entries(SWEEPS)) {
    const made: Row[] = []
    for (const point of points)
      made.push(
        await benchLora(gpu, bundle, { name, ...point, base: 'f32', policy: 'fast', ...WARM_UP, rounds: Math.min(o.rounds, 5) }, o.peak),
      )
    o.say(`${name}: ${made.map((r) => `${r.batch}x${r.seq} r=${r.rank} ${r.ms.toFixed(0)} ms`).join(', ')}`)
    rows.push(...made)
  }
  return rows
}
