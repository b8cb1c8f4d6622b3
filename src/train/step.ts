/** @file One optimizer step as recorded programs: `micro` (forward, loss, backward of one micro-batch, gradients added up), `update` (norm, clip, AdamW),
 * `evaluate` (forward and loss). They share buffers, and their bytes are known before any is made. */
import { OptionError } from '../errors.ts'
import { keepHalf } from '../autograd/keep_half.ts'
import { moment8bitBytes } from '../autograd/ops/optimizer.ts'
import { Network, type NetworkOptions } from '../nn/network.ts'
import { ropeFrequencies } from '../nn/rope.ts'
import type { ModelStore } from '../nn/store.ts'
import { sftLoss } from '../objectives/sft.ts'
import { optimizerStep } from '../optim/adamw.ts'
import { DYNAMIC_TABLE_BYTES } from '../optim/dynamic_map.ts'
import { fuse } from '../tensor/fuse.ts'
import { type Call, Graph, isLive, ScalarInput, type TargetTraits, type Tensor } from '../tensor/graph.ts'
import { recompute } from '../tensor/recompute.ts'
import { SessionPlan } from '../tensor/program.ts'
import { Storage } from '../tensor/storage.ts'
import type { Adapter } from './adapter.ts'
import { BatchBuffers } from './batch_buffers.ts'
import type { ModelBundle } from './bundle.ts'
import { BLOCK, type ParamSet } from './param_set.ts'
import { READBACK_BYTES } from './readback.ts'
import type { FixedPolicy, MemoryPlan, RunOptions } from './run_config.ts'

/** A model on the GPU (or planned to be), with or without an adapter. */
export interface Tunable {
  readonly bundle: ModelBundle
  readonly store: ModelStore
  /** Buffers of the frozen parameters. */
  readonly storages: readonly Storage[]
  readonly adapter: Adapter | null
  /** What is trained: the adapter's parameters, the model's own, or nothing. */
  readonly trained: ParamSet | null
}

/** Longest text of a micro-batch: the collator pads to multiples of 8. */
export const paddedLength = (seq: number): number => Math.ceil(seq / 8) * 8

/** Rotary frequencies as a persistent buffer, with what goes with them. */
export function ropeBuffer(
  bundle: ModelBundle,
  length: number,
): { readonly invFreq: Storage; readonly tables: NetworkOptions['rope']['tables']; readonly values: Float32Array<ArrayBuffer> } {
  const made = bundle.config.ropes.map((rope) => ropeFrequencies(rope, length))
  // Each table at a multiple of 256 bytes, so that it can be bound alone.
  const stride = Math.max(64, ...made.map((t) => Math.ceil(t.invFreq.length / 64) * 64))
  const values = new Float32Array(stride * Math.max(1, made.length))
  made.forEach((t, i) => values.set(t.invFreq, stride * i))
  const tables = made.map(({ invFreq, attentionFactor }, i) => ({ byteOffset: 4 * stride * i, pairs: invFreq.length, attentionFactor }))
  return { invFreq: new Storage('rotary frequencies', values.byteLength, 'batch'), tables, values }
}

export type StepOptions = Pick<RunOptions, 'batch' | 'seq' | 'clip' | 'weight_decay'>
/** What of the forward pass is there for the backward pass. */
export interface Keeping {
  readonly policy: FixedPolicy
  /** Norms and activations are computed again. */
  readonly recompute: boolean
  /** Blocks between inputs that are kept, the rest being computed again; null: no checkpoints. */
  readonly checkpointEvery: number | null
  /** What waits does so as f16. */
  readonly half: boolean
  /** Most rows of logits at once; null: by bytes. */
  readonly headRows: number | null
}

export class TrainStep {
  readonly buffers: BatchBuffers
  readonly plan: SessionPlan
  readonly lr = new ScalarInput(0)
  /** Optimizer steps, from 1: AdamW's bias correction. */
  readonly step = new ScalarInput(1)
  readonly seed = new ScalarInput(0)
  /** f32 [4]: gradient norm, clip coefficient, 1 where a gradient or loss was not finite (STATS of autograd/ops/optimizer.ts). */
  readonly stats = new Storage('step statistics', 16, 'batch')
  readonly rope: ReturnType<typeof ropeBuffer>
  /** Maps of moments in 8-bit blocks, where there are any. */
  readonly tables: Storage | null
  readonly dispatches: number

  constructor(
    readonly t: Tunable,
    readonly run: StepOptions,
    target: TargetTraits,
    readonly keeping: Keeping,
  ) {
    const P = t.adapter?.virtualTokens ?? 0
    const { ropes, context } = t.bundle.config
    if (ropes.length === 0 && P + run.seq > context)
      throw new OptionError(`rows of ${P + run.seq} tokens, and the model has ${context} positions`, {
        where: 'seq',
        why: 'each position has a vector of its own, learned in training: there is none beyond the last',
        fix: `Use at most ${context - P}`,
      })
    this.buffers = new BatchBuffers(run.batch, paddedLength(run.seq), P)
    this.rope = ropeBuffer(t.bundle, P + run.seq)
    const mapped = t.trained?.arenas.some((a) => a.moments === 'dynamic') ?? false
    this.tables = mapped ? new Storage('quantisation maps', DYNAMIC_TABLE_BYTES, 'optimizer') : null
    const specs = [
      ...(t.trained
        ? [
            { name: 'micro', graph: this.#forward(target, true) },
            { name: 'update', graph: this.#update(target, t.trained) },
          ]
        : []),
      { name: 'evaluate', graph: this.#forward(target, false) },
    ]
    const adapterOnly = t.adapter && t.adapter.params !== t.trained ? t.adapter.params.storages() : []
    this.plan = new SessionPlan(specs, [...t.storages, ...(t.trained?.storages() ?? []), ...adapterOnly, ...this.own()], READBACK_BYTES)
    this.dispatches = specs.filter((s) => s.name !== 'evaluate').reduce((n, s) => n + s.graph.calls.length, 0)
  }

  /** Buffers of the step alone. */
  own(): Storage[] {
    return [...this.buffers.storages(), this.stats, this.rope.invFreq, ...(this.tables ? [this.tables] : [])]
  }

  #forward(target: TargetTraits, training: boolean): Graph {
    const { t, buffers, keeping } = this
    const g = new Graph(target)
    const hook = t.adapter?.hook(g, { training, seed: this.seed, strength: null }) ?? null
    const net = new Network({
      graph: g,
      store: t.store,
      shape: t.bundle.config,
      inputs: buffers.networkInputs(g, t.adapter?.prompt(g) ?? null),
      rope: this.rope,
      hook,
      attention: { kind: 'rows' },
      checkpointEvery: training ? keeping.checkpointEvery : null,
    })
    const hidden = t.bundle.family.forward(net, t.bundle.config)
    const turn = g.calls.length
    const { logitSoftcap } = t.bundle.config
    sftLoss(hidden, net.head, buffers.labelledRows(g), {
      forwardOnly: !training,
      ...(keeping.headRows !== null && { headRows: keeping.headRows }),
      ...(logitSoftcap && { softcap: logitSoftcap }),
    })
    const turned = g.calls[turn]
    if (training && keeping.recompute) recompute(g, turn)
    fuse(g)
    if (training && keeping.half) keepHalf(g, turned)
    return g
  }

  #update(target: TargetTraits, trained: ParamSet): Graph {
    const g = new Graph(target)
    const leaf = (st: Storage, n: number): Tensor => g.leaf(st, [n])
    const words = (st: Storage, n: number): Tensor => g.leaf(st, [n / 4], { dtype: 'u32' })
    const tables = this.tables && leaf(this.tables, this.tables.bytes / 4)
    const arenas = trained.arenas.map(({ length, moments: kind, param, training }) => {
      const { grad, m, v, lrScale } = training!
      const flat = { param: leaf(param, length), grad: leaf(grad, length), lrScale: leaf(lrScale, length / BLOCK) }
      if (kind === null) return { ...flat, m: leaf(m, length), v: leaf(v, length) }
      const bytes = moment8bitBytes(kind, length)
      return { ...flat, kind, m: words(m, bytes), v: words(v, bytes), tables }
    })
    optimizerStep(arenas, g.leaf(this.stats, [4]), {
      lr: this.lr,
      step: this.step,
      weightDecay: this.run.weight_decay,
      clip: this.run.clip,
      loss: g.leaf(this.buffers.lossSum, [1]),
    })
    return g
  }

  /** Floating-point operations of a step over the largest batch with a label on every row, as kernels declare them: what a policy computes twice counts twice.
   * Kernels that move bytes (norms, activations) declare none. */
  get operations(): number {
    const { text, labels, batch, maxText } = this.buffers
    const live = [text.value, labels.value]
    text.value = maxText
    labels.value = batch * maxText
    const of = ({ kernel, uniforms, constants }: Call): number =>
      kernel.cost?.(Object.fromEntries(Object.entries(uniforms).map(([k, d]) => [k, isLive(d) ? d.value : d])), constants) ?? 0
    const calls = this.plan.specs.filter((s) => s.name !== 'evaluate').flatMap((s) => s.graph.calls)
    const total = calls.reduce((n, c) => n + of(c), 0)
    ;[text.value, labels.value] = live
    return total
  }

  get memory(): MemoryPlan {
    const { weights, adapter, optimizer, activations, head, batch } = this.plan.bytes
    return { weights, adapter, optimizer, activations: activations + batch, head, total: this.plan.total }
  }
}
