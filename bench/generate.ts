/** @file Generation with SmolLM2-135M: a prompt read at once (prefill), then a token at a time with cached keys and values (decode). A decoded token reads every
 * weight once: its time is held against the adapter's copy rate. */
import type { Gpu } from '../src/gpu/device.ts'
import type { JsonObject } from '../src/io/json.ts'
import { Generator } from '../src/train/generator.ts'
import { type ModelBundle, openBundle } from '../src/train/bundle.ts'
import { randomModel } from '../src/train/random_model.ts'
import type { Base } from '../src/train/run_config.ts'
import { TunableLayout } from '../src/train/tunable.ts'
import { peakBytes, setOwner, takeCounts } from './counters.ts'
import { forwardFlops } from './flops.ts'
import { random } from './model.ts'
import type { Peak } from './peak.ts'
import { median, rateRow, type Row, shareOf } from './report.ts'

const PROMPT = 256
const TOKENS = 24
const GREEDY = { temperature: 0, topK: 0, topP: 1, seed: 0, stopIds: [] }

/** Rows of `smollm2-prefill` and `smollm2-decode`, and of the latter with packed products (engine `etude-dot`) where the device has them. Throws what loading
 * or running throws; leaves nothing on the GPU. */
export async function benchGeneration(gpu: Gpu, bundle: ModelBundle, base: Base, peak: Peak, rounds: number): Promise<Row[]> {
  const owner = `generation, base ${base}`
  setOwner(owner)
  const { maxBindingSize } = gpu.traits
  const layout = new TunableLayout(bundle, null, {}, { base, seed: 0, trainable: false, maxBindingSize })
  const next = random(5)
  const ids = Array.from({ length: PROMPT }, () => Math.floor(next() * bundle.config.vocabSize))
  const weights = layout.storages.reduce((n, s) => n + s.bytes, 0)
  const rows: Row[] = []
  try {
    await layout.fill(gpu)
    for (const dot of gpu.traits.dot ? [false, true] : [false]) {
      const generator = await Generator.create(gpu, layout, { capacity: PROMPT + TOKENS, dot })
      const { prefill, decode, read, token } = await measure(generator, ids, rounds).finally(() => {
        generator.destroy()
      })
      const memory = { planned_bytes: generator.session.plan.total, allocated_bytes: peakBytes(owner), batch: 1, base }
      const [ms, each] = [median(prefill), median(decode)]
      const rate = weights / each / 1e6
      if (!dot)
        rows.push({
          ...{ case: 'smollm2-prefill', engine: 'etude', seq: PROMPT, ms, rounds, tokens_per_s: (1000 * PROMPT) / ms, ...read, ...memory },
          ...shareOf(forwardFlops(bundle, PROMPT) / 1e9, ms, peak),
        })
      // Of floats nothing is packed.
      if (!dot || generator.programs.newToken === 'decode dot')
        rows.push({
          ...{
            case: 'smollm2-decode',
            engine: dot ? 'etude-dot' : 'etude',
            seq: 1,
            ms: each,
            rounds,
            tokens_per_s: 1000 / each,
            ...token,
            ...memory,
          },
          ...{ gb_per_s: rate, percent_of_peak: (100 * rate) / peak.gbPerSecond },
        })
    }
    return rows
  } finally {
    layout.destroy()
  }
}

/** What a new token takes where there is next to nothing to read: the same layers, a ninth as wide, with few words. Row `smollm2-decode-floor`: what dispatches take. */
export async function benchDecodeFloor(gpu: Gpu, config: JsonObject, rounds: number): Promise<Row> {
  const one = { num_attention_heads: 1, num_key_value_heads: 1, head_dim: 64 }
  const narrow = { ...config, hidden_size: 64, intermediate_size: 128, vocab_size: 256, ...one }
  const { maxBindingSize } = gpu.traits
  const bundle = openBundle(randomModel(narrow, 'narrow'))
  const layout = new TunableLayout(bundle, null, {}, { base: 'q8', seed: 0, trainable: false, maxBindingSize })
  let generator: Generator | null = null
  try {
    await layout.fill(gpu)
    generator = await Generator.create(gpu, layout, { capacity: PROMPT + TOKENS, dot: false })
    const { decode, token } = await measure(
      generator,
      Array.from({ length: PROMPT }, (_, i) => i % 256),
      rounds,
    )
    const ms = median(decode)
    return { ...rateRow('smollm2-decode-floor', 'etude', ms, { seq: 1, batch: 1, base: 'q8', rounds }), ...token, tokens_per_s: 1000 / ms }
  } finally {
    generator?.destroy()
    layout.destroy()
  }
}

/** ms of each prefill and of each new token, and what one of them counted. */
async function measure(generator: Generator, ids: readonly number[], rounds: number) {
  const [prefill, decode]: number[][] = [[], []]
  let read = takeCounts()
  let token = read
  // The first round compiles. A round is a prompt and TOKENS - 1 tokens after the first.
  for (let round = 0; round <= rounds; round++) {
    takeCounts()
    let began = performance.now()
    await generator.logits(ids)
    if (round > 0) prefill.push(performance.now() - began)
    read = takeCounts()
    began = performance.now()
    const onToken = (_: number, all: readonly number[]): void => {
      const now = performance.now()
      // Before the first token the prompt is read again.
      if (round > 0 && all.length > 1) decode.push(now - began)
      if (all.length > 1) token = takeCounts()
      else takeCounts()
      began = now
    }
    await generator.generate(ids, { ...GREEDY, maxTokens: TOKENS, onToken })
  }
  return { prefill, decode, read, token }
}
