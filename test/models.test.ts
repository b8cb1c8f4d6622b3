/** Real models against their reference files: token ids, logits, per-token NLL, greedy text.
 * Logits: 2e-3 for the small f32 model (sums in another order), 2e-2 for SmolLM2 (30 layers; the reference dequantises first, we inside the matmul). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { TokenRows } from '../src/data/types.ts'
import { loadTokenizer } from '../src/data/tokenizer.ts'
import { renderChat } from '../src/data/template.ts'
import { openModel } from '../src/io/model_files.ts'
import { readPath } from '../src/io/node_source.ts'
import { openBundle } from '../src/train/bundle.ts'
import { Generator } from '../src/train/generator.ts'
import type { Base } from '../src/train/run_config.ts'
import { Trainer } from '../src/train/trainer.ts'
import { TunableLayout } from '../src/train/tunable.ts'
import { gpu } from './gpu.ts'
import { describeShared } from './shared.ts'

interface Nll {
  readonly text: string
  readonly mean_nll: number
}
interface StoriesGolden {
  readonly encode: readonly { readonly text: string; readonly ids: readonly number[] }[]
  readonly nll: readonly Nll[]
  readonly greedy_ids: readonly number[]
  readonly bos_logits_top8: readonly (readonly [number, number])[]
}
interface SmolGolden {
  readonly encode: StoriesGolden['encode']
  readonly chat: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[]
    readonly rendered: string
    readonly ids: readonly number[]
  }[]
  readonly logits: readonly {
    readonly ids: readonly number[]
    readonly top_ids: readonly number[]
    readonly top_logits: readonly number[]
    readonly at: readonly number[]
    readonly at_logits: readonly number[]
  }[]
  readonly nll: readonly (Nll & { readonly token_nll: readonly number[] })[]
  readonly greedy: readonly { readonly prompt_ids: readonly number[]; readonly ids: readonly number[] }[]
}

async function load(path: string, capacity: number, base: Base = 'f32') {
  const bundle = openBundle(await openModel(await readPath(path)))
  const tunable = new TunableLayout(bundle, null, {}, { base, seed: 0, trainable: false, maxBindingSize: gpu.traits.maxBindingSize })
  await tunable.fill(gpu)
  const generator = await Generator.create(gpu, tunable, { capacity })
  return {
    bundle,
    tunable,
    generator,
    tokenizer: loadTokenizer(bundle.files.tokenizer!),
    golden: JSON.parse(readFileSync(join(path, 'golden.json'), 'utf8')) as unknown,
  }
}
type Loaded = Awaited<ReturnType<typeof load>>
const lazily = <T>(make: () => Promise<T>): (() => Promise<T>) => {
  let made: Promise<T> | null = null
  return () => (made ??= make())
}
/** Every token after the first is a label. */
function wholeText(ids: readonly number[]): TokenRows {
  return { ids: Int32Array.from(ids), labels: Int32Array.from(ids), offsets: Uint32Array.of(0, ids.length) }
}
async function meanNll({ tunable }: Loaded, ids: readonly number[]): Promise<number> {
  const trainer = await Trainer.create(gpu, tunable, {
    batch: 1,
    seq: 128,
    clip: 0,
    weight_decay: 0,
    policy: 'fast',
    activation_dtype: 'f32',
    lr: 0,
    schedule: 'constant',
    warmup: 0,
    steps: 1,
    seed: 0,
  })
  const { loss } = await trainer.evaluate(wholeText(ids))
  trainer.destroy()
  return loss
}
const greedy = { temperature: 0, topK: 0, topP: 1, seed: 0, stopIds: [] }

describeShared('stories260K', ['models', 'stories260K'], (path) => {
  const model = lazily(() => load(path, 192))
  const golden = async () => (await model()).golden as StoriesGolden
  test('token ids', async () => {
    for (const { text, ids } of (await golden()).encode) expect((await model()).tokenizer.encode(text, true)).toEqual(ids)
  })
  test('logits after BOS', async () => {
    const logits = await (await model()).generator.logits([1])
    for (const [id, want] of (await golden()).bos_logits_top8) expect(Math.abs(logits[id] - want)).toBeLessThan(2e-3)
  })
  test('negative log-likelihood of two texts', async () => {
    const m = await model()
    for (const { text, mean_nll } of (await golden()).nll)
      expect(Math.abs((await meanNll(m, m.tokenizer.encode(text, true))) - mean_nll)).toBeLessThan(1e-4)
  })
  test('150 greedy tokens', async () => {
    const want = (await golden()).greedy_ids
    const { ids } = await (await model()).generator.generate([want[0]], { ...greedy, maxTokens: want.length - 1 })
    expect([want[0], ...ids]).toEqual(want)
  })
  test.skipIf(!gpu.traits.dot)('8-bit weights by packed products: greedy text begins as without them, and stays text', async () => {
    const { tunable, generator, tokenizer } = await load(path, 192, 'q8')
    const dot = await Generator.create(gpu, tunable, { capacity: 192, dot: true })
    try {
      const [want, { ids }] = [
        await generator.generate([1], { ...greedy, maxTokens: 150 }),
        await dot.generate([1], { ...greedy, maxTokens: 150 }),
      ]
      const same = ids.findIndex((id, i) => id !== want.ids[i])
      console.log(
        `stories260K by packed products: ${same < 0 ? ids.length : same} of ${ids.length} tokens as without: ${tokenizer.decode(ids, true)}`,
      )
      expect(dot.programs.newToken).toBe('decode dot')
      expect(same < 0 ? ids.length : same).toBeGreaterThan(20)
    } finally {
      dot.destroy()
      generator.destroy()
      tunable.destroy()
    }
  })
})

describeShared('SmolLM2-135M-Instruct, Q4_1', ['models', 'smollm2-135m-instruct'], (path) => {
  const model = lazily(() => load(path, 128))
  const golden = async () => (await model()).golden as SmolGolden
  test('token ids and chat template', async () => {
    const { tokenizer } = await model()
    for (const { text, ids } of (await golden()).encode) expect(tokenizer.encode(text, false), text).toEqual(ids)
    for (const c of (await golden()).chat) {
      const rendered = renderChat(tokenizer.chatTemplate!, c.messages, {
        bos_token: '<|im_start|>',
        eos_token: '<|im_end|>',
        addGenerationPrompt: c.rendered.endsWith('assistant\n'),
        tools: null,
      })
      expect(rendered).toBe(c.rendered)
      expect(tokenizer.encode(rendered, false)).toEqual(c.ids)
    }
  })
  test('logits', { timeout: 300_000 }, async () => {
    const { generator } = await model()
    let worst = 0
    for (const g of (await golden()).logits) {
      const logits = await generator.logits(g.ids)
      g.top_ids.forEach((id, i) => (worst = Math.max(worst, Math.abs(logits[id] - g.top_logits[i]))))
      g.at.forEach((id, i) => (worst = Math.max(worst, Math.abs(logits[id] - g.at_logits[i]))))
    }
    console.log(`SmolLM2 logits within ${worst.toExponential(1)}`)
    expect(worst).toBeLessThan(2e-2)
  })
  test('per-token negative log-likelihood', { timeout: 300_000 }, async () => {
    const m = await model()
    for (const { text, mean_nll, token_nll } of (await golden()).nll) {
      const ids = m.tokenizer.encode(text, false)
      expect(ids.length).toBe(token_nll.length + 1)
      expect(Math.abs((await meanNll(m, ids)) - mean_nll)).toBeLessThan(1e-3)
      for (const n of [1, 7, ids.length - 1]) {
        const logits = await m.generator.logits(ids.slice(0, n))
        const max = logits.reduce((a, b) => Math.max(a, b))
        const logSum = max + Math.log(logits.reduce((s, v) => s + Math.exp(v - max), 0))
        expect(Math.abs(logSum - logits[ids[n]] - token_nll[n - 1]), `token ${n}`).toBeLessThan(2e-2)
      }
    }
  })
  test('greedy text after the chat template', { timeout: 300_000 }, async () => {
    const { generator, tokenizer } = await model()
    for (const { prompt_ids, ids } of (await golden()).greedy) {
      const made = await generator.generate(prompt_ids, { ...greedy, maxTokens: ids.length, stopIds: [tokenizer.eosId!] })
      expect(made.ids).toEqual(ids.at(-1) === tokenizer.eosId ? ids.slice(0, -1) : ids)
    }
  })
})
