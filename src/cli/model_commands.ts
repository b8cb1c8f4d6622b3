/** @file `logits`, `eval` and `generate`: a model as it is, with or without an adapter. */
import { rowCount, type TokenRows } from '../data/types.ts'
import { OptionError } from '../errors.ts'
import type { Gpu } from '../gpu/device.ts'
import { Generator } from '../train/generator.ts'
import { RUN_OPTIONS } from '../train/run_config.ts'
import { ownTemplate, readPrompt, TextStream } from '../train/text.ts'
import { Trainer } from '../train/trainer.ts'
import { TunableLayout } from '../train/tunable.ts'
import { defaults } from '../options.ts'
import type { ModelBundle } from '../train/bundle.ts'
import { type Args, baseOf } from './args.ts'
import type { GpuSource } from './gpu.ts'
import { loadAdapter, loadModel, loadRows, requireTokenizer } from './load.ts'
import type { Output } from './output.ts'

const RUN_DEFAULTS = defaults(RUN_OPTIONS)

/** The model of --model with the adapter of --adapter, on the GPU. */
async function onGpu<T>(
  args: Args,
  bundle: ModelBundle,
  out: Output,
  gpus: GpuSource,
  body: (gpu: Gpu, t: TunableLayout) => Promise<T>,
): Promise<T> {
  const path = args.text('adapter')
  const loaded = path === null ? null : await loadAdapter(bundle, path, new Map(), out)
  const gpu = await gpus.open()
  let t: TunableLayout | null = null
  try {
    const o = { base: baseOf(args), seed: 0, trainable: false, maxBindingSize: gpu.traits.maxBindingSize } as const
    t = new TunableLayout(bundle, loaded?.method ?? null, loaded?.options ?? {}, o, loaded)
    for (const note of t.notes.filter((n) => !loaded?.notes.includes(n))) out.note(note)
    await t.fill(gpu, { onProgress: (done, total) => out.bar(done, total, 'loading the model') })
    return await body(gpu, t)
  } finally {
    t?.destroy()
    gpus.close(gpu)
  }
}

/** Ids of `--ids`. `vocabSize` null: not known yet. Throws OptionError. */
export function parseIds(text: string, vocabSize: number | null): number[] {
  const parts = text.split(',')
  const ids = parts.map((s) => (/^\s*\d+\s*$/.test(s) ? Number(s) : NaN))
  const bad = ids.findIndex((n) => !(n < (vocabSize ?? 2 ** 31)))
  if (bad < 0) return ids
  const expected = vocabSize === null ? 'token ids' : `token ids from 0 to ${vocabSize - 1}`
  throw new OptionError(`got "${parts[bad]}", expected ${expected}, separated by commas`, { where: '--ids' })
}

export async function logitsCommand(args: Args, out: Output, gpus: GpuSource): Promise<void> {
  if (args.has('text') === args.has('ids')) throw new OptionError('expected one of --text "…" and --ids 1,2,3', { where: 'arguments' })
  const idText = args.text('ids')
  if (idText !== null) parseIds(idText, null)
  const bundle = await loadModel(args.required('model'), out)
  const tokenizer = idText === null ? requireTokenizer(bundle, '--text', 'Use --ids, or add the tokenizer.json of the model') : null
  const ids = idText === null ? tokenizer!.encode(args.required('text'), true) : parseIds(idText, bundle.config.vocabSize)
  if (ids.length === 0) throw new OptionError('the text has no token', { where: '--text', fix: 'Write at least one character' })
  await onGpu(args, bundle, out, gpus, async (gpu, t) => {
    const generator = await Generator.create(gpu, t, { capacity: ids.length + (t.adapter?.virtualTokens ?? 0) })
    const logits = await generator.logits(ids)
    const top = Array.from(logits.keys())
      .sort((a, b) => logits[b] - logits[a])
      .slice(0, 10)
    out.result(
      { ids, logits: Array.from(logits) },
      top
        .map(
          (id) =>
            `${logits[id].toFixed(4).padStart(10)}  ${String(id).padStart(6)}  ${tokenizer ? JSON.stringify(tokenizer.token(id)) : ''}`,
        )
        .join('\n'),
    )
    generator.destroy()
  })
}

/** Tokens of the longest row. */
function longest(rows: TokenRows): number {
  let n = 2
  for (let r = 0; r < rowCount(rows); r++) n = Math.max(n, rows.offsets[r + 1] - rows.offsets[r])
  return n
}

export async function evalCommand(args: Args, out: Output, gpus: GpuSource): Promise<void> {
  const bundle = await loadModel(args.required('model'), out)
  const limit = args.has('seq') ? args.number('seq') : null
  const { train: rows } = await loadRows(args.required('data'), bundle, limit ?? bundle.config.context, out)
  await onGpu(args, bundle, out, gpus, async (gpu, t) => {
    // Never more than is there: buffers are made for it.
    const seq = Math.min(longest(rows), limit ?? Math.max(2, bundle.config.context - (t.adapter?.virtualTokens ?? 0)))
    const trainer = await Trainer.create(gpu, t, { ...RUN_DEFAULTS, batch: Math.min(args.number('batch'), rowCount(rows)), seq })
    const { loss, perplexity, tokens } = await trainer.evaluate(rows)
    out.result({ loss, perplexity, tokens }, `loss ${loss.toFixed(5)}  perplexity ${perplexity.toFixed(4)}  ${tokens} tokens`)
    trainer.destroy()
  })
}

/** `--packed-products`. */
const dotOf = (args: Args): boolean | 'auto' => {
  const wish = args.text('packed_products') ?? 'auto'
  return wish === 'auto' ? wish : wish === 'on'
}

export async function generateCommand(args: Args, out: Output, gpus: GpuSource): Promise<void> {
  const bundle = await loadModel(args.required('model'), out, { seed: args.number('seed') })
  const tokenizer = requireTokenizer(bundle, '--prompt', 'Add the tokenizer.json of the model')
  const maxTokens = args.number('max_tokens')
  const { ids, ...ends } = readPrompt(tokenizer, args.required('prompt'), args.switch('chat') ? ownTemplate(tokenizer) : null)
  if (ids.length === 0) throw new OptionError('the prompt has no token', { where: '--prompt', fix: 'Write at least one character' })
  await onGpu(args, bundle, out, gpus, async (gpu, t) => {
    const capacity = ids.length + maxTokens + (t.adapter?.virtualTokens ?? 0)
    const generator = await Generator.create(gpu, t, { capacity, dot: dotOf(args) })
    const text = new TextStream(tokenizer, ids, [...args.list('stop'), ...ends.stop])
    const made = await generator.generate(ids, {
      temperature: args.number('temperature'),
      topK: args.number('top_k'),
      topP: args.number('top_p'),
      seed: args.number('seed'),
      maxTokens,
      stopIds: [...new Set([...bundle.config.eosIds, ...ends.stopIds, ...(tokenizer.eosId === null ? [] : [tokenizer.eosId])])],
      onToken: (id) => {
        out.part(text.push(id))
        return text.ended
      },
    })
    out.part(text.finish())
    out.result({ text: text.text, ids: made.ids, stopped: made.stopped }, '')
    generator.destroy()
  })
}
