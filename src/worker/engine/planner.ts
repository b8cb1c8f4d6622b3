/** @file What a run needs before anything is made: exact bytes, dispatches, and where it cannot fit, the smallest change that would. */
import { GpuError, type WireError, toWire } from '../../errors.ts'
import { type GpuTraits, targetOf } from '../../gpu/device.ts'
import { parseOptions } from '../../options.ts'
import type { ModelBundle } from '../../train/bundle.ts'
import { planGenerator } from '../../train/generator.ts'
import { tooLarge } from '../../train/limits.ts'
import { type Base, RUN_OPTIONS, type RunConfig, type RunOptions } from '../../train/run_config.ts'
import { planStep, stepsByCost } from '../../train/policy.ts'
import type { TrainStep } from '../../train/step.ts'
import { baseBytes, findMethod, TunableLayout } from '../../train/tunable.ts'
import type { RunMemory, RunPlan } from '../protocol.ts'
import { capacityFor } from './room.ts'
import { NOTHING, type Watched } from './watched.ts'

interface Device {
  readonly traits: GpuTraits
  readonly budget: number
}
interface Planned {
  /** Of the watched prompts; null: none is watched. */
  readonly samples: Samples | null
  readonly config: RunConfig
  readonly layout: TunableLayout
  readonly step: TrainStep
  readonly memory: RunMemory
}
type Samples = ReturnType<typeof planGenerator>

/** Lays everything out; allocates nothing. Throws OptionError for values that are none. */
function planRun(bundle: ModelBundle, { method, options, run }: RunConfig, { traits, budget }: Device, watched: Watched): Planned {
  const config = { method, options, run: parseOptions(RUN_OPTIONS, run) }
  const o = {
    base: config.run.base,
    seed: config.run.seed,
    trainable: true,
    maxBindingSize: traits.maxBindingSize,
    optim: config.run.optim,
  }
  const layout = new TunableLayout(bundle, findMethod(method), options, o)
  const length = watched(layout)
  const samples = length > 0 ? planGenerator(traits, layout, { capacity: capacityFor(layout, length) }) : null
  const bytes = samples?.bytes ?? 0
  const step = planStep(layout, config.run, targetOf(traits), budget - bytes)
  return { config, layout, step, samples, memory: { ...step.memory, samples: bytes, total: step.memory.total + bytes } }
}

const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`

/** What does not fit, or null. */
function excess({ step, samples, memory }: Planned, { traits, budget }: Device): { what: string; where: string } | null {
  if (memory.total > budget)
    return { what: `the run needs ${mib(memory.total)}, and this device is trusted with ${mib(budget)}`, where: 'GPU memory' }
  return tooLarge(step.plan, traits) ?? (samples && tooLarge(samples.plan, traits))
}

interface Change {
  readonly run: Partial<RunOptions>
  /** Where it is not what the run watches. */
  readonly watched?: Watched
  readonly text: string
}

const LEAN = 'keep the fewest activations (lean)'
const FROZEN: Readonly<Record<Base, string>> = {
  keep: 'keep frozen weights as they are in the file',
  f32: 'keep frozen weights as f32',
  f16: 'keep frozen weights as f16',
  q8: 'keep frozen weights in 8 bits (q8)',
  nf4: 'keep frozen weights in 4 bits (nf4)',
}
/** Ways of keeping the frozen weights that take less than the run's, largest first. None where the method trains them. */
function smallerBases(bundle: ModelBundle, { config, layout }: Planned, { traits }: Device): Base[] {
  if (!layout.adapter) return []
  const bytes = (base: Base): number => baseBytes(bundle, base, traits.maxBindingSize)
  const now = bytes(config.run.base)
  return (['f16', 'q8', 'nf4'] as const).filter((base) => bytes(base) < 0.95 * now)
}

/** Changes that make a run smaller, from what costs least to what costs most; each later one builds on those before. */
function* changes(run: RunOptions, bases: readonly Base[]): Generator<Change> {
  const parts: string[] = []
  let change: Partial<RunOptions> = {}
  const add = (more: Partial<RunOptions>, text: string): Change => {
    change = { ...change, ...more }
    return { run: change, text: [...parts, text].join(', ') }
  }
  for (const base of bases) yield add({ base }, FROZEN[base])
  const smallest = bases.at(-1)
  if (smallest) parts.push(FROZEN[smallest])
  if (run.policy !== 'auto' && run.policy !== 'lean') {
    yield add({ policy: 'lean' }, LEAN)
    parts.push(LEAN)
  }
  let { batch, seq, accum } = run
  while (batch > 1) {
    const half = Math.ceil(batch / 2)
    accum = Math.ceil((batch * accum) / half)
    batch = half
    yield add({ batch, accum }, `batch ${batch} with accumulation ${accum}`)
  }
  if (run.batch > 1) parts.push(`batch 1 with accumulation ${accum}`)
  while (seq > 32) {
    seq = Math.max(32, Math.ceil(seq / 16) * 8)
    yield add({ seq }, `rows of at most ${seq} tokens`)
  }
}

/** Single changes first, then several together: the first that fits, planned again to be sure. */
function whatFits(bundle: ModelBundle, p: Planned, device: Device, watched: Watched): string {
  const { run } = p.config
  const bases = smallerBases(bundle, p, device)
  const alone: Change[] = [
    ...(run.policy === 'auto' || run.policy === 'lean' ? [] : [{ run: { policy: 'lean' as const }, text: LEAN }]),
    ...(run.optim === 'adamw' && p.memory.optimizer > 0
      ? [{ run: { optim: 'adamw_8bit' as const }, text: "keep the optimizer's moments in 8 bits (adamw_8bit)" }]
      : []),
    ...halves(run.batch, 1).map((batch) => ({
      run: { batch, accum: Math.ceil((run.batch * run.accum) / batch) },
      text: `batch ${batch} with accumulation ${Math.ceil((run.batch * run.accum) / batch)} (the same rows a step)`,
    })),
    ...bases.map((base) => ({ run: { base }, text: FROZEN[base] })),
    ...(p.samples ? [{ run: {}, watched: NOTHING, text: 'watch no prompts' }] : []),
    ...halves(run.seq, 32).map((seq) => ({ run: { seq }, text: `rows of at most ${seq} tokens` })),
  ]
  for (const change of [...alone, ...changes(run, bases)]) {
    const tried = planRun(bundle, { ...p.config, run: { ...run, ...change.run } }, device, change.watched ?? watched)
    if (excess(tried, device) === null) return `This would fit, in ${mib(tried.memory.total)}: ${change.text}`
  }
  return p.layout.adapter
    ? 'No smaller batch, shorter row or recomputation makes it fit: use a smaller or more strongly quantised model'
    : 'No smaller batch, shorter row or recomputation makes it fit: use LoRA, which trains a small part, or a smaller model'
}

/** Halves of n down to `least`, multiples of 8 where they are longer than that. */
function halves(n: number, least: number): number[] {
  const out: number[] = []
  for (let v = n; v > least;) {
    v = Math.max(least, least >= 8 ? Math.ceil(v / 16) * 8 : Math.ceil(v / 2))
    if (v === out.at(-1) || v >= n) break
    out.push(v)
  }
  return out
}

const calls = (s: TrainStep, program: string): number => s.plan.specs.find((p) => p.name === program)?.graph.calls.length ?? 0

const dispatchesOf = (s: TrainStep, accum: number): number => accum * calls(s, 'micro') + calls(s, 'update')

/** The plan of a run, with what the prompts that it watches take. `refusal` says why it cannot be made, and which change would make it fit. Throws OptionError. */
export function makePlan(
  bundle: ModelBundle,
  config: RunConfig,
  device: Device,
  { watched = NOTHING, compare = false }: { watched?: Watched; compare?: boolean } = {},
): RunPlan {
  const p = planRun(bundle, config, device, watched)
  const too = excess(p, device)
  const { batch, seq, accum } = p.config.run
  const trainable = p.layout.trained?.count ?? 0
  const refusal: WireError | null =
    too &&
    toWire(
      new GpuError(too.what, {
        where: too.where,
        why: 'It would fail, or slow down everything that uses this GPU',
        fix: whatFits(bundle, p, device, watched),
      }),
    )
  return {
    memory: p.memory,
    trainable,
    adapterBytes: trainable * 4,
    dispatches: dispatchesOf(p.step, accum),
    policy: p.step.keeping.policy,
    policies: (compare ? stepsByCost(p.layout, p.config.run, targetOf(device.traits), p.step) : []).map(({ step, arithmetic }) => {
      const { policy, checkpointEvery } = step.keeping
      return { policy, total: step.plan.total + p.memory.samples, dispatches: dispatchesOf(step, accum), arithmetic, checkpointEvery }
    }),
    submits: accum,
    tokensPerStep: batch * seq * accum,
    msPerStep: null,
    refusal,
  }
}
