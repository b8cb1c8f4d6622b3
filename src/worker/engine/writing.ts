/** @file Text from what lies on the GPU: with the model alone, with a run's adapter or a loaded one, at any strength. */
import { ModelError, RunError } from '../../errors.ts'
import { type Prompt, readPrompt, TextStream } from '../../train/text.ts'
import type { Tunable } from '../../train/step.ts'
import type { TunableLayout } from '../../train/tunable.ts'
import type { EngineCommand, Replies, Sampling } from '../protocol.ts'
import { asExported } from './exported.ts'
import type { LoadedModel } from './model.ts'
import type { Room } from './room.ts'
import { hooksOf, type OpenAdapter, type Request, type Shared } from './shared.ts'

type Generate = Extract<EngineCommand, { type: 'generate' }>
type Written = Omit<Replies['generate'], 'ms'>

export const GREEDY: Omit<Sampling, 'maxTokens'> = { temperature: 0, topK: 0, topP: 1, seed: 0, stop: [] }

/** Throws ModelError where the model has no tokenizer. */
function tokenizerOf({ tokenizer, bundle }: LoadedModel) {
  if (tokenizer) return tokenizer
  throw new ModelError('the model came without a tokenizer', {
    where: bundle.files.name,
    why: 'Text cannot be turned into tokens, nor back',
    fix: 'Load it together with its tokenizer.json',
  })
}

/** A prompt for a model: plain text, or a user's turn in a chat template. */
export const promptOf = (model: LoadedModel, prompt: string, template: string | null): Prompt =>
  readPrompt(tokenizerOf(model), prompt, template)

/** Tokens left for the answer to a prompt of `asked` tokens, at most `most`: it ends at the length the model was made for. Throws RunError where none is. */
export function answerTokens(model: LoadedModel, t: Tunable, asked: number, most: number): number {
  const { context } = model.bundle.config
  const left = context - asked - (t.adapter?.virtualTokens ?? 0)
  if (left >= 1) return Math.min(most, left)
  throw new RunError(`the prompt has ${asked} tokens, and the model was made for ${context}`, {
    where: 'prompt',
    why: 'There is no room for an answer',
    fix: 'Use a shorter prompt',
  })
}

interface WriteOptions {
  /** Chat template (Jinja) that the prompt is a user's turn of; null: plain text. */
  readonly template: string | null
  readonly sampling: Sampling
  /** Null: as trained, without the cost of mixing. */
  readonly strength: number | null
  readonly signal?: AbortSignal
  readonly onText?: (piece: string) => void
}

/** What follows a prompt. With the lock held. */
export async function write(model: LoadedModel, room: Room, t: TunableLayout, prompt: string, o: WriteOptions): Promise<Written> {
  const tokenizer = tokenizerOf(model)
  const { ids, ...ends } = promptOf(model, prompt, o.template)
  const { eosIds } = model.bundle.config
  const maxTokens = answerTokens(model, t, ids.length, o.sampling.maxTokens)
  const generator = await room.generator(t, ids.length + maxTokens, o.strength !== null)
  if (o.strength !== null) generator.strength.value = o.strength
  const stream = new TextStream(tokenizer, ids, [...o.sampling.stop, ...ends.stop])
  const give = (piece: string): void => {
    if (piece !== '') o.onText?.(piece)
  }
  const { temperature, topK, topP, seed } = o.sampling
  const made = await generator.generate(ids, {
    temperature,
    topK,
    topP,
    seed,
    maxTokens,
    stopIds: [...new Set([...eosIds, ...ends.stopIds, ...(tokenizer.eosId === null ? [] : [tokenizer.eosId])])],
    ...(o.signal && { signal: o.signal }),
    onToken: (id) => {
      give(stream.push(id))
      return stream.ended
    },
  })
  give(stream.finish())
  return { text: stream.text, tokens: made.ids.length, stopped: stream.ended ? 'stop' : made.stopped }
}

/** Answers a `generate` request. */
export async function generate(s: Shared, c: Generate, r: Request): Promise<Replies['generate']> {
  s.need()
  return s.lock.run(async () => {
    const start = performance.now()
    const nothing = { text: '', tokens: 0, ms: 0, stopped: 'cancelled' } as const
    try {
      r.signal.throwIfAborted()
      const { model, room } = s.need()
      const answer = async (t: TunableLayout, strength: number | null): Promise<Replies['generate']> => {
        const made = await write(model, room, t, c.prompt, {
          template: c.template,
          sampling: c.sampling,
          strength,
          signal: r.signal,
          onText: (text) => s.deps.post({ type: 'token', id: r.id, text }),
        })
        return { ...made, ms: performance.now() - start }
      }
      return await room.cancellable(r.signal, () => withSubject(s, c, r, answer))
    } catch (e) {
      if (r.signal.aborted) return nothing
      throw e
    }
  })
}

type Body<T> = (t: TunableLayout, strength: number | null) => Promise<T>

/** Finds, or makes, what a request means, and lets `body` use it. */
async function withSubject<T>(s: Shared, c: Generate, r: Request, body: Body<T>): Promise<T> {
  const { room } = s.need()
  const hooks = hooksOf(r)
  const base = () => room.base(s.run?.record.config.run.base ?? 'keep', hooks)
  if (c.which === 'base' || c.scale === 0) return body(await base(), null)
  const t = await tunedLayout(s, c.runId, r)
  if (c.scale === 1) return body(t, null)
  if (t.adapter?.method.slot !== 'linear')
    throw new RunError(`${t.method?.title ?? 'This method'} is on (1) or off (0): it has no strength between or beyond`, {
      where: 'strength',
      why: t.adapter ? 'It puts trained vectors before the text' : 'It changed the weights themselves',
      fix: 'Set the strength to 0 or 1',
    })
  if (t.borrows) return body(t, c.scale)
  // Its frozen weights are not the model's: mixed beside these, in the form that is exported.
  const loaded = await asExported(room.bundle, t.adapter, await t.adapter.params.read(), t.o.seed)
  const beside = await room.layout(
    { method: loaded.method, options: loaded.options, base: 'keep', seed: t.o.seed, trainable: false, loaded },
    hooks,
  )
  try {
    return await body(beside, c.scale)
  } finally {
    room.release(beside)
  }
}

/** The run's layout, or the loaded adapter's. @param runId null: the loaded adapter; undefined: what came last. Throws RunError where there is neither. */
export async function tunedLayout(s: Shared, runId: string | null | undefined, r: Request): Promise<TunableLayout> {
  const { run, adapter } = s
  if (runId !== null && run && (runId === undefined ? !(s.adapterIsNewer && adapter) : runId === run.runId)) return run.parts.layout
  if (typeof runId === 'string') throw new RunError('the engine does not hold this run', { where: runId, fix: 'Restore it first' })
  if (adapter) return adapterLayout(s, adapter, r)
  throw new RunError('there is nothing tuned yet', { fix: 'Train a run, restore one, or load an adapter' })
}

async function adapterLayout(s: Shared, a: OpenAdapter, r: Request): Promise<TunableLayout> {
  const { room } = s.need()
  const { method, options } = a.loaded
  const base = s.run?.record.config.run.base ?? room.kept ?? 'keep'
  a.layout ??= await room.layout({ method, options, base, seed: 0, trainable: false, loaded: a.loaded }, hooksOf(r))
  return a.layout
}
