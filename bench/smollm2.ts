/** @file LoRA steps of SmolLM2-135M, and its generation, on its real weights where they are at hand, else on random ones of its shapes: with a base of 16 bits and one of 4. */
import config from '../test/configs/smollm2-135m.json'
import type { Gpu } from '../src/gpu/device.ts'
import type { ModelFiles } from '../src/io/model_files.ts'
import { type ModelBundle, openBundle } from '../src/train/bundle.ts'
import { randomModel } from '../src/train/random_model.ts'
import type { Base } from '../src/train/run_config.ts'
import { benchDecodeFloor, benchGeneration } from './generate.ts'
import { benchLora, type LoraCase, RANK } from './lora.ts'
import type { Peak } from './peak.ts'
import type { Row, Say } from './report.ts'

const SIZES = [
  { batch: 1, seq: 128 },
  { batch: 1, seq: 256 },
  { batch: 4, seq: 256 },
] as const
/** Asked for by name alone: it takes minutes on a software adapter. */
const LONG = { batch: 1, seq: 4096 } as const
const nameOf = ({ batch, seq }: { batch: number; seq: number }): string => `smollm2-lora-${batch}x${seq}`

export const SMOLLM2_CASES: readonly string[] = SIZES.map(nameOf)
export const LONG_CASE = nameOf(LONG)

/** Its generation. */
export const GENERATE = 'generate'

/** A step of seconds needs no more than a few to be timed. */
const MOST_ROUNDS = 3

/** @param wanted names of cases, and GENERATE. @param real opens the real model's files; null where they are not there. */
export async function benchSmolLM2(
  gpu: Gpu,
  wanted: readonly string[],
  real: () => Promise<ModelFiles | null>,
  o: { readonly rounds: number; readonly peak: Peak; readonly say: Say; readonly problems: string[] },
): Promise<Row[]> {
  const files = await real()
  const bundle: ModelBundle = openBundle(files ?? randomModel(config, 'smollm2-135m'))
  const weights = files ? 'real' : 'random'
  o.say(files ? `SmolLM2-135M: ${files.name}` : 'SmolLM2-135M: random weights of its shapes (the real ones are not at hand)')
  // The file's own blocks are of 4 bits; random weights are floats, and become blocks.
  const small: Base = files ? 'keep' : 'nf4'
  const rounds = Math.min(o.rounds, MOST_ROUNDS)
  const all: Omit<LoraCase, 'rank'>[] = [
    ...SIZES.flatMap((size) =>
      (['f16', small] satisfies Base[]).map((base) => ({ name: nameOf(size), ...size, base, policy: 'fast' as const, warmUp: 1, rounds })),
    ),
    { name: LONG_CASE, ...LONG, base: small, policy: 'lean' as const, warmUp: 0, rounds: 1 },
  ]
  const rows: Row[] = []
  if (wanted.includes(GENERATE))
    try {
      const made: Row[] = []
      // The more bytes a weight has, the more a new token is reading alone.
      for (const base of [small, 'f16', 'f32'] as const) made.push(...(await benchGeneration(gpu, bundle, base, o.peak, rounds)))
      for (const row of [...made, await benchDecodeFloor(gpu, config, rounds)]) {
        o.say(
          `${row.case}${row.engine === 'etude' ? '' : ` by ${row.engine}`}, base ${row.base!}: ${row.ms.toFixed(1)} ms, ${row.tokens_per_s!.toFixed(1)} tokens/s, ${String(row.dispatches)} dispatches`,
        )
        rows.push({ ...row, weights })
      }
    } catch (error) {
      o.problems.push(`${GENERATE}: ${error instanceof Error ? error.message : String(error)}`)
    }
  const cases = all.filter((c) => wanted.includes(c.name)).map((c): LoraCase => ({ ...c, rank: RANK }))
  for (const c of cases) {
    try {
      const row: Row = { ...(await benchLora(gpu, bundle, c, o.peak)), weights }
      o.say(
        `${c.name}, base ${c.base}: ${row.ms.toFixed(0)} ms, ${row.gflops!.toFixed(1)} GFLOP/s, ${String(row.dispatches)} dispatches, ${(row.allocated_bytes! / 1e6).toFixed(0)} MB`,
      )
      rows.push(row)
      if (!Number.isFinite(row.last_loss)) o.problems.push(`${c.name}, base ${c.base}: the loss is ${row.last_loss}`)
    } catch (error) {
      o.problems.push(`${c.name}, base ${c.base}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return rows
}
