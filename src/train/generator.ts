/** @file Text from a model, token by token, with cached keys and values. Works beside a trainer on the same weights. */
import { emitMatmul } from '../autograd/ops/matmul.ts'
import { tableChunks } from '../autograd/ops/embedding.ts'
import { softcapInto } from '../autograd/ops/pointwise.ts'
import { RunError } from '../errors.ts'
import { type Gpu, type GpuTraits, targetOf } from '../gpu/device.ts'
import { touch } from '../gpu/trial.ts'
import { waitFor } from '../gpu/wait.ts'
import { Network } from '../nn/network.ts'
import { fuse } from '../tensor/fuse.ts'
import { derived, Graph, ScalarInput, type TargetTraits, type Tensor } from '../tensor/graph.ts'
import { type GraphSpec, Session, SessionPlan } from '../tensor/program.ts'
import { Recorder } from '../tensor/recorder.ts'
import { Storage } from '../tensor/storage.ts'
import { sampler, type SamplingOptions } from './sampling.ts'
import { ropeBuffer, type Tunable } from './step.ts'

/** Tokens read at once before generation. */
const CHUNK = 64

export interface GenerateOptions extends SamplingOptions {
  readonly maxTokens: number
  /** Generation ends after one of these. */
  readonly stopIds: readonly number[]
  /** Called with every new id; true ends generation. */
  readonly onToken?: (id: number, all: readonly number[]) => boolean | void
  readonly signal?: AbortSignal
}
export interface Generated {
  /** New ids, without the prompt's and without a stop id. */
  readonly ids: number[]
  readonly stopped: 'eos' | 'stop' | 'length' | 'cancelled'
}
export interface GeneratorOptions {
  /** Longest sequence, tokens, a prompt's included. */
  readonly capacity: number
  /** Let `strength` be other than 1 (the frozen layers are then computed too). */
  readonly mixing?: boolean
  /** Packed products of whole numbers for new tokens (docs/adr/0007-packed-products-for-new-tokens.md), where the device has them. `auto`: where they were
   * measured to be faster. Never in `logits`. */
  readonly dot?: boolean | 'auto'
}

export class Generator {
  /** How strongly the adapter acts: 0 not at all, 1 as trained. Only with `mixing`. */
  readonly strength: ScalarInput
  #position = 0
  private constructor(
    readonly gpu: Gpu,
    readonly capacity: number,
    readonly session: Session,
    readonly programs: Programs,
    /** The logits on their way back. */
    readonly staging: GPUBuffer,
  ) {
    this.strength = programs.strength
  }

  /** Throws GpuError where it cannot be made; then nothing of it is left. */
  static async create(gpu: Gpu, t: Tunable, o: GeneratorOptions): Promise<Generator> {
    const { programs, plan } = planGenerator(gpu.traits, t, o)
    // Used once as it is made, so that a GPU that has no room for it says so.
    const session = await Session.create(gpu, plan, async (_, make) => touch(gpu, await make()))
    try {
      const staging = gpu.createBuffer(programs.logitBytes, 0x1 | 0x8 /* MAP_READ | COPY_DST */, 'next-token logits, read back')
      programs.rope.invFreq.write(programs.rope.values)
      return new Generator(gpu, o.capacity, session, programs, staging)
    } catch (e) {
      session.destroy()
      for (const s of programs.own) s.destroy()
      throw e
    }
  }

  /** Logits after the last of `ids`, read from the beginning: the same whatever `generate` uses. */
  async logits(ids: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
    this.#position = 0
    return this.#feed(ids)
  }

  async generate(ids: readonly number[], o: GenerateOptions): Promise<Generated> {
    const choose = sampler(o)
    const made: number[] = []
    let logits = await this.logits(ids)
    while (made.length < o.maxTokens) {
      if (o.signal?.aborted) return { ids: made, stopped: 'cancelled' }
      const id = choose(logits)
      if (o.stopIds.includes(id)) return { ids: made, stopped: 'eos' }
      made.push(id)
      if (o.onToken?.(id, made) === true) return { ids: made, stopped: 'stop' }
      if (made.length === o.maxTokens || this.#position + 1 > this.programs.limit) break
      logits = await this.#feed([id], this.programs.newToken)
    }
    return { ids: made, stopped: 'length' }
  }

  /** Read more tokens, one by itself with the program `single`; returns the logits after the last. */
  async #feed(ids: readonly number[], single = 'decode'): Promise<Float32Array<ArrayBuffer>> {
    const p = this.programs
    const P = this.#position === 0 ? p.prompt : 0
    if (ids.length === 0) throw new RunError('there is no token to start from', { where: 'prompt', fix: 'Write at least one character' })
    if (this.#position + P + ids.length > p.limit)
      throw new RunError(
        `${this.#position + P + ids.length} tokens do not fit ${p.limit}: what was set aside, or all positions that the model has`,
        {
          where: 'prompt',
          fix: 'Use a shorter prompt',
        },
      )
    const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= p.vocab)
    if (bad !== undefined)
      throw new RunError(`token id ${bad} is not in the vocabulary of ${p.vocab}`, { where: 'ids', fix: "Use the model's own tokenizer" })
    const out = new Recorder(this.gpu)
    for (let from = 0; from < ids.length; from += CHUNK) {
      const part = ids.slice(from, from + CHUNK)
      const withPrompt = this.#position === 0 && p.prompt > 0
      const rows = part.length + (withPrompt ? p.prompt : 0)
      p.text.value = part.length
      p.rows.value = rows
      p.position.value = this.#position
      p.ids.write(Uint32Array.from(part))
      p.positions.write(Uint32Array.from({ length: rows }, (_, i) => this.#position + i))
      this.session.program(withPrompt ? 'first' : part.length === 1 ? single : 'read').record(out)
      if (from + CHUNK >= ids.length) out.encoder.copyBufferToBuffer(p.logits.buffer, 0, this.staging, 0, p.logitBytes)
      out.flush()
      this.#position += rows
    }
    await waitFor(this.staging.mapAsync(1 /* READ */))
    const logits = new Float32Array(this.staging.getMappedRange().slice(0))
    this.staging.unmap()
    return logits
  }

  destroy(): void {
    this.session.destroy()
    this.gpu.destroyBuffer(this.staging)
    for (const s of this.programs.own) s.destroy()
  }
}

/** A generator before any of it is made. `bytes`: of its own buffers, beside the tunable's. */
export function planGenerator(
  traits: GpuTraits,
  t: Tunable,
  o: GeneratorOptions,
): { readonly programs: Programs; readonly plan: SessionPlan; readonly bytes: number } {
  const dot = traits.dot && ((o.dot ?? 'auto') === 'auto' ? traits.dotFaster === true : o.dot === true)
  const programs = new Programs(t, o.capacity, o.mixing === true, targetOf(traits), dot)
  const plan = new SessionPlan(programs.specs, programs.storages, programs.logitBytes)
  const own = new Set(programs.own)
  const tunable = [...plan.storages].reduce((n, s) => n + (own.has(s) ? 0 : s.bytes), 0)
  return { programs, plan, bytes: plan.total - tunable }
}

/** The recorded programs: `first` (with a trained prompt), `read` (up to CHUNK tokens), `decode` (one token), and where packed
 * products are used `decode dot` (a token that was just chosen). */
export class Programs {
  readonly text = new ScalarInput(1)
  readonly rows = new ScalarInput(1)
  readonly position = new ScalarInput(0)
  readonly strength = new ScalarInput(1)
  readonly ids = new Storage('generation ids', CHUNK * 4, 'batch')
  readonly positions: Storage
  readonly logits: Storage
  readonly rope: ReturnType<typeof ropeBuffer>
  readonly vocab: number
  /** Longest sequence, tokens: positions that were learned are as many as they are. */
  readonly limit: number
  readonly prompt: number
  readonly specs: readonly GraphSpec[]
  /** Program of a token that was just chosen. */
  readonly newToken: 'decode' | 'decode dot'
  /** Made for generation. */
  readonly own: readonly Storage[]
  readonly #layers: { k: Storage; v: Storage }[]

  constructor(
    readonly t: Tunable,
    readonly capacity: number,
    readonly mixing: boolean,
    readonly target: TargetTraits,
    dot: boolean,
  ) {
    const { config } = t.bundle
    this.vocab = config.vocabSize
    this.limit = config.ropes.length > 0 ? capacity : Math.min(capacity, config.context)
    this.prompt = t.adapter?.virtualTokens ?? 0
    this.positions = new Storage('generation positions', (CHUNK + this.prompt) * 4, 'batch')
    this.logits = new Storage('next-token logits', this.vocab * 4, 'head')
    this.rope = ropeBuffer(t.bundle, capacity)
    const bytes = capacity * config.kvHeads * config.headDim * 4
    this.#layers = Array.from({ length: config.layers }, (_, i) => ({
      k: new Storage(`keys ${i}`, bytes, 'activations'),
      v: new Storage(`values ${i}`, bytes, 'activations'),
    }))
    this.own = [this.ids, this.positions, this.logits, this.rope.invFreq, ...this.#layers.flatMap(({ k, v }) => [k, v])]
    const packed = dot ? this.#trace(1, false, { ...target, dot }) : null
    // A model whose weights are no whole numbers has nothing to gain.
    this.newToken = packed?.calls.some((c) => c.flags.includes('dot')) ? 'decode dot' : 'decode'
    this.specs = [
      ...(this.prompt > 0 ? [{ name: 'first', graph: this.#trace(CHUNK, true) }] : []),
      { name: 'read', graph: this.#trace(CHUNK, false) },
      { name: 'decode', graph: this.#trace(1, false) },
      ...(packed && this.newToken === 'decode dot' ? [{ name: this.newToken, graph: packed }] : []),
    ]
  }
  /** Of one row of logits. */
  get logitBytes(): number {
    return this.vocab * 4
  }
  get storages(): Storage[] {
    return [...this.own, ...this.t.storages, ...(this.t.adapter?.params.storages() ?? [])]
  }

  #trace(text: number, withPrompt: boolean, target = this.target): Graph {
    const { t, prompt } = this
    const { config, family } = t.bundle
    const g = new Graph(target)
    const most = text + (withPrompt ? prompt : 0)
    const rows = text === 1 ? 1 : withPrompt ? this.rows : this.text
    const net = new Network({
      graph: g,
      store: t.store,
      shape: config,
      inputs: {
        ids: g.leaf(this.ids, [text], { dtype: 'u32', rows: text === 1 ? 1 : this.text }),
        positions: g.leaf(this.positions, [most], { dtype: 'u32', rows }),
        starts: g.leaf(this.positions, [most], { dtype: 'u32', rows }),
        batch: 1,
        tokens: rows,
        prompt: withPrompt ? (t.adapter?.prompt(g) ?? null) : null,
        textTokens: text === 1 ? 1 : this.text,
        maxBatch: 1,
      },
      rope: this.rope,
      hook: t.adapter?.hook(g, { training: false, seed: new ScalarInput(0), strength: this.mixing ? this.strength : null }) ?? null,
      attention: { kind: 'cache', position: this.position, layers: this.#layers, capacity: this.capacity },
      checkpointEvery: null,
    })
    const hidden = family.forward(net, config)
    g.within('head', () => this.#lastLogits(g, hidden, net, rows === 1))
    return fuse(g)
  }

  #lastLogits(g: Graph, hidden: Tensor, net: Network, single: boolean): void {
    const C = hidden.cols
    const aOff = single ? 0 : derived(() => (this.rows.value - 1) * C)
    const { logitSoftcap } = this.t.bundle.config
    const chosen = g.leaf(this.logits, [1, this.vocab])
    const logits = logitSoftcap ? g.node('logits', [1, this.vocab], [hidden], null, { rows: 1 }) : chosen
    for (const piece of tableChunks(net.head))
      emitMatmul({
        layout: 'nt',
        a: hidden,
        aOff,
        b: { ...net.head, rows: piece.rows, data: piece.data, scales: piece.scales },
        c: logits,
        cOff: piece.first,
        M: 1,
        N: piece.rows,
        K: C,
      })
    if (logitSoftcap) softcapInto(chosen, logits, logitSoftcap)
  }
}
