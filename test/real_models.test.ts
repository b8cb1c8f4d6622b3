/** Real models of other families than Llama's against Transformers in float32 on their dequantised weights (fixtures: test/golden/real_models.py, which says where the
 * files come from): token ids, logits, per-token NLL, greedy text, four steps of LoRA. Skipped, by name, where a file is missing.
 * Weights stay as the file has them (Q4_K, Q5_0, Q6_K, Q8_0, F32), so both sides multiply the same numbers. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { afterAll, expect, test } from 'vitest'
import type { TokenRows } from '../src/data/types.ts'
import { renderChat } from '../src/data/template.ts'
import { loadTokenizer } from '../src/data/tokenizer.ts'
import { openModel } from '../src/io/model_files.ts'
import { readPath } from '../src/io/node_source.ts'
import { fromBytes } from '../src/io/sources.ts'
import { type ModelBundle, openBundle } from '../src/train/bundle.ts'
import { Generator } from '../src/train/generator.ts'
import { Trainer } from '../src/train/trainer.ts'
import { openAdapter, type TunableLayout } from '../src/train/tunable.ts'
import { goldenJson } from './files.ts'
import { gpu } from './gpu.ts'
import { describeModel } from './shared.ts'
import { gradientsOf, logitsOf, onGpu, RUN, trainSteps } from './tiny.ts'

interface Logits {
  readonly ids: readonly number[]
  readonly top_ids: readonly number[]
  readonly top_logits: readonly number[]
  readonly at: readonly number[]
  readonly at_logits: readonly number[]
}
interface Golden {
  readonly file: { readonly name: string; readonly sha256: string }
  readonly special: { readonly bos: string; readonly eos: string }
  readonly encode: readonly { readonly text: string; readonly ids: readonly number[]; readonly special_ids: readonly number[] }[]
  readonly chat: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[]
    readonly rendered: string
    readonly ids: readonly number[]
  }[]
  readonly logits: readonly Logits[]
  readonly nll: readonly { readonly ids: readonly number[]; readonly token_nll: readonly number[] }[]
  readonly greedy: readonly { readonly prompt_ids: readonly number[]; readonly ids: readonly number[]; readonly margin: number }[]
  readonly lora: {
    readonly r: number
    readonly lora_alpha: number
    readonly lr: number
    readonly weight_decay: number
    readonly clip: number
    readonly seed: number
    readonly context: number
    readonly rows: readonly (readonly number[])[]
    readonly trainable: number
    readonly steps: readonly { readonly loss: number; readonly grad_norm: number }[]
    readonly b_grads: readonly number[]
    readonly after: Logits
  }
}

/** Logits of up to 30 are sums of some thousand products through 18 or 24 layers, in another order of float32 (6e-8 each). NLL: differences of two logits.
 * Norms of the first gradients, relative: the head's sums one product after another over 262,144 tokens, where PyTorch's are in pieces. PyTorch made to sum like that is
 * off by 5e-4 in the same layers. The steps carry on what AdamW makes of it: it divides each gradient by its own size, so one near 0 moves its weight by the whole rate
 * either way. Losses (absolute) and gradient norms (relative) as in trajectories.test.ts; logits afterwards a few times what PyTorch's own float32 differs from double. */
const TOLERANCE = { logits: 5e-4, nll: 5e-4, gradient: 1e-3, loss: 3e-4, norm: 2e-3, afterwards: 6e-2 } as const
/** Of each text's tokens, every so manieth is looked at by itself. */
const NLL_EVERY = 5

const lazily = <T>(make: () => Promise<T>): (() => Promise<T>) => {
  let made: Promise<T> | null = null
  return () => (made ??= make())
}

/** Largest error of the logits that the fixture has. */
function logitsError(got: Float32Array, want: Logits): number {
  const off = (ids: readonly number[], logits: readonly number[]): number => Math.max(...ids.map((id, i) => Math.abs(got[id] - logits[i])))
  return Math.max(off(want.top_ids, want.top_logits), off(want.at, want.at_logits))
}
function nll(logits: Float32Array, id: number): number {
  const max = logits.reduce((a, b) => Math.max(a, b))
  return max + Math.log(logits.reduce((s, v) => s + Math.exp(v - max), 0)) - logits[id]
}

/** Rows of which the first `context` tokens are not trained. */
function rowsOf(rows: readonly (readonly number[])[], context: number): TokenRows {
  let at = 0
  return {
    ids: Int32Array.from(rows.flat()),
    labels: Int32Array.from(rows.flatMap((row) => row.map((id, i) => (i < context ? -100 : id)))),
    offsets: Uint32Array.from([0, ...rows.map((r) => (at += r.length))]),
  }
}

/** The adapter as the script sets it: B is 0, A from one generator over the layers in order of their names. */
function adapterOf(bundle: ModelBundle, { r, lora_alpha, seed }: Golden['lora']) {
  const shapes = bundle.params.flatMap((p) => (p.kind === 'linear' && bundle.linears.includes(p.name) ? [p] : []))
  const name = (layer: string, part: 'A' | 'B'): string => `base_model.model.${layer}.lora_${part}.weight`
  const tensor = (key: string, shape: readonly number[], data: Float32Array<ArrayBuffer>) => {
    const bytes = new Uint8Array(data.buffer)
    return [key, { name: key, type: 'F32', shape, source: fromBytes(key, bytes), offset: 0, bytes: bytes.length }] as const
  }
  let state = seed
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32) * 2 - 1
  }
  const tensors = shapes
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(({ name: layer, rows, cols }) => [
      tensor(
        name(layer, 'A'),
        [r, cols],
        Float32Array.from({ length: r * cols }, () => next() / Math.sqrt(cols)),
      ),
      tensor(name(layer, 'B'), [rows, r], new Float32Array(rows * r)),
    ])
  const target_modules = [...new Set(shapes.map((p) => p.name.split('.').at(-1)!))]
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r, lora_alpha, lora_dropout: 0, target_modules }
  return openAdapter(bundle, { config, tensors: new Map(tensors), files: new Map() })
}

const results: string[] = []
afterAll(() => {
  if (results.length > 0) console.log(results.join('\n'))
})

for (const name of ['gemma-3-270m-q4_k_m', 'qwen2.5-coder-0.5b-instruct-q4_k_m']) {
  const golden = goldenJson(`real/${name}.json`) as Golden
  describeModel(golden.file, (path) => {
    const bundle = lazily(async () => openBundle(await openModel(await readPath(path))))
    const tokenizer = lazily(async () => loadTokenizer((await bundle()).files.tokenizer!))
    /** The model alone, for one test: two at a time would be too much memory. */
    const withModel = async (work: (t: TunableLayout) => Promise<void>): Promise<void> => {
      const t = await onGpu(await bundle(), null)
      try {
        await work(t)
      } finally {
        t.destroy()
      }
    }

    test('the file is the one of the fixture', async () => {
      const hash = createHash('sha256')
      for await (const part of createReadStream(path)) hash.update(part as Buffer)
      expect(hash.digest('hex')).toBe(golden.file.sha256)
    })

    test('token ids, and the chat template', async () => {
      const t = await tokenizer()
      for (const { text, ids, special_ids } of golden.encode) {
        expect(t.encode(text, false), JSON.stringify(text)).toEqual(ids)
        expect(t.encode(text, true), JSON.stringify(text)).toEqual(special_ids)
      }
      expect(t.chatTemplate !== null).toBe(golden.chat.length > 0)
      for (const c of golden.chat) {
        const { bos: bos_token, eos: eos_token } = golden.special
        const rendered = renderChat(t.chatTemplate!, c.messages, { bos_token, eos_token, addGenerationPrompt: true, tools: null })
        expect(rendered).toBe(c.rendered)
        expect(t.encode(rendered, false)).toEqual(c.ids)
      }
      results.push(`${name}: ${golden.encode.length} texts and ${golden.chat.length} chats have their token ids`)
    })

    test('logits, per-token negative log-likelihood and greedy text', { timeout: 900_000 }, () =>
      withModel(async (t) => {
        const worst: number[] = []
        for (const want of golden.logits) worst.push(logitsError(await logitsOf(t, want.ids), want))
        const generator = await Generator.create(gpu, t, { capacity: 160 })
        const trainer = await Trainer.create(gpu, t, { ...RUN, batch: 1, seq: 64 })
        let worstNll = 0
        try {
          for (const { ids, token_nll } of golden.nll) {
            const mean = token_nll.reduce((a, b) => a + b) / token_nll.length
            worstNll = Math.max(worstNll, Math.abs((await trainer.evaluate(rowsOf([ids], 0))).loss - mean))
            for (let i = 0; i < token_nll.length; i += NLL_EVERY)
              worstNll = Math.max(worstNll, Math.abs(nll(await generator.logits(ids.slice(0, i + 1)), ids[i + 1]) - token_nll[i]))
          }
          const eos = (await tokenizer()).eosId!
          for (const { prompt_ids, ids, margin } of golden.greedy) {
            const made = await generator.generate(prompt_ids, {
              temperature: 0,
              topK: 0,
              topP: 1,
              seed: 0,
              stopIds: [eos],
              maxTokens: ids.length,
            })
            expect(margin, 'the two best logits are further apart than the tolerance').toBeGreaterThan(2 * TOLERANCE.logits)
            expect(made.ids).toEqual(ids.at(-1) === eos ? ids.slice(0, -1) : ids)
          }
        } finally {
          trainer.destroy()
          generator.destroy()
        }
        const lengths = golden.logits.map((l) => l.ids.length)
        results.push(
          `${name}: logits after ${lengths.join(', ')} tokens within ${worst.map((w) => w.toExponential(1)).join(', ')}; NLL of tokens and texts within ${worstNll.toExponential(1)}; ${golden.greedy.map((g) => g.ids.length).join(' and ')} greedy tokens are the same`,
        )
        expect(Math.max(...worst), 'logits').toBeLessThan(TOLERANCE.logits)
        expect(worstNll, 'NLL').toBeLessThan(TOLERANCE.nll)
      }),
    )

    test('four steps of LoRA on every linear layer', { timeout: 900_000 }, async () => {
      const { lora } = golden
      const b = await bundle()
      const loaded = await adapterOf(b, lora)
      expect(loaded.targets).toHaveLength(b.linears.length)
      const t = await onGpu(b, loaded.method, loaded.options, { loaded, trainable: true })
      expect(t.trained!.count).toBe(lora.trainable)
      const { lr, clip, weight_decay } = lora
      const trainer = await Trainer.create(gpu, t, { ...RUN, batch: lora.rows.length, seq: 32, lr, clip, weight_decay })
      const data = rowsOf(lora.rows, lora.context)
      try {
        const { grads } = await gradientsOf(trainer, data)
        const norms = [...grads].filter(([key]) => key.includes('lora_B')).sort(([a], [b]) => (a < b ? -1 : 1))
        expect(norms).toHaveLength(lora.b_grads.length)
        const gradient = Math.max(...norms.map(([, g], i) => Math.abs(Math.sqrt(g.reduce((n, v) => n + v * v, 0)) / lora.b_grads[i] - 1)))
        const records = await trainSteps(trainer, data, lora.steps.length)
        const loss = Math.max(...lora.steps.map((s, i) => Math.abs(records[i].loss - s.loss)))
        const norm = Math.max(...lora.steps.map((s, i) => Math.abs(records[i].grad_norm / s.grad_norm - 1)))
        trainer.destroy()
        const after = logitsError(await logitsOf(t, lora.after.ids), lora.after)
        results.push(
          `${name}: ${lora.steps.length} steps of LoRA, ${norms.length} first gradients within ${gradient.toExponential(1)}, losses ${records.map((r) => r.loss.toFixed(4)).join(', ')} within ${loss.toExponential(1)}, gradient norm within ${norm.toExponential(1)}, logits afterwards within ${after.toExponential(1)}`,
        )
        expect(gradient, 'norm of a first gradient').toBeLessThan(TOLERANCE.gradient)
        expect(loss, 'loss of a step').toBeLessThan(TOLERANCE.loss)
        expect(norm, 'gradient norm of a step').toBeLessThan(TOLERANCE.norm)
        expect(after, 'logits afterwards').toBeLessThan(TOLERANCE.afterwards)
      } finally {
        t.destroy()
      }
    })
  })
}
