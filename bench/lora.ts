/** @file Measures LoRA steps of any model at one batch, length, rank, base and policy: time, memory, dispatches, share of the adapter's rate. */
import { type Batch, collate } from '../src/data/collate.ts'
import type { TokenRows } from '../src/data/types.ts'
import type { Gpu } from '../src/gpu/device.ts'
import type { ModelBundle } from '../src/train/bundle.ts'
import type { Base, Policy } from '../src/train/run_config.ts'
import { Trainer } from '../src/train/trainer.ts'
import { findMethod, TunableLayout } from '../src/train/tunable.ts'
import { peakBytes, setOwner, takeCounts } from './counters.ts'
import { stepFlops } from './flops.ts'
import { LORA, random } from './model.ts'
import type { Peak } from './peak.ts'
import { median, type Row, shareOf } from './report.ts'

export interface LoraCase {
  readonly name: string
  readonly batch: number
  readonly seq: number
  readonly rank: number
  readonly base: Base
  readonly policy: Policy
  /** Steps before the clock: so many, and on until they have taken so many milliseconds beside the first, which compiles. */
  readonly warmUp: number
  readonly warmUpMs?: number
  /** Steps on the clock. */
  readonly rounds: number
}

/** Rows of random tokens, all of them filled and labelled. */
function randomBatch({ batch, seq }: LoraCase, vocabSize: number, seed: number): { readonly rows: TokenRows; readonly batch: Batch } {
  const next = random(seed)
  const ids = Int32Array.from({ length: batch * seq }, () => Math.floor(next() * vocabSize))
  const offsets = Uint32Array.from({ length: batch + 1 }, (_, i) => i * seq)
  const rows = { ids, labels: ids.slice(), offsets }
  const sequences = Array.from({ length: batch }, (_, i) => [i])
  return { rows, batch: collate(rows, sequences, seq) }
}

/** Of every LoRA run here: what changes neither time nor memory. */
export const TRAINING = {
  clip: 1,
  weight_decay: 0,
  activation_dtype: 'f32',
  lr: 1e-4,
  schedule: 'constant',
  warmup: 0,
  steps: 1_000_000,
  seed: 0,
} as const

let runs = 0

/** One case, a row. Throws what creating or running it throws; leaves nothing on the GPU. */
export async function benchLora(gpu: Gpu, bundle: ModelBundle, c: LoraCase, peak: Peak): Promise<Row> {
  const owner = `${c.name} ${runs++}`
  setOwner(owner)
  const { maxBindingSize } = gpu.traits
  const tunable = new TunableLayout(
    bundle,
    findMethod('lora'),
    { r: c.rank, alpha: 2 * c.rank },
    { base: c.base, seed: 0, trainable: true, maxBindingSize },
  )
  let trainer: Trainer | null = null
  try {
    await tunable.fill(gpu)
    const { batch, seq, policy } = c
    trainer = await Trainer.create(gpu, tunable, {
      batch,
      seq,
      policy,
      ...TRAINING,
    })
    const ms: number[] = []
    const losses: number[] = []
    let labelled = 0
    let counts = takeCounts()
    let warm = 0
    for (let i = 0; ms.length < c.rounds; i++) {
      const { rows, batch: b } = randomBatch(c, bundle.config.vocabSize, 77 + i)
      labelled = b.labelled
      takeCounts()
      const began = performance.now()
      losses.push((await trainer.step([b], rows)).loss)
      const took = performance.now() - began
      if (i < c.warmUp || warm < (c.warmUpMs ?? 0)) warm += i === 0 ? 0 : took
      else ms.push(took)
      counts = takeCounts()
    }
    const time = median(ms)
    const gflop = stepFlops(bundle, { batch, seq, labelled, rank: c.rank }) / 1e9
    return {
      case: c.name,
      engine: 'etude',
      batch,
      seq,
      rank: c.rank,
      base: c.base,
      policy: trainer.program.keeping.policy,
      ms: time,
      rounds: ms.length,
      tokens_per_s: (batch * seq * 1000) / time,
      ...shareOf(gflop, time, peak),
      ...counts,
      planned_bytes: trainer.program.plan.total,
      allocated_bytes: peakBytes(owner),
      first_loss: losses[0],
      last_loss: losses.at(-1)!,
    }
  } finally {
    trainer?.destroy()
    tunable.destroy()
  }
}

/** Rank of the cases that do not vary it. */
export const RANK = LORA.r
