/** @file `tune`: a whole run from the command line, and what it leaves in the output folder. */
import { BatchSource } from '../data/collate.ts'
import type { Dataset } from '../data/dataset.ts'
import { OptionError, RunError } from '../errors.ts'
import type { Gpu } from '../gpu/device.ts'
import { parseOptions } from '../options.ts'
import type { AnyMethod, Json } from '../peft/method.ts'
import type { State } from '../train/adapter.ts'
import type { ModelBundle } from '../train/bundle.ts'
import { adapterFiles, type ExportItem, type Manifest, modelFiles, VERSION } from '../train/export.ts'
import { fingerprint } from '../train/fingerprint.ts'
import { makeableStep } from '../train/limits.ts'
import { type Checkpoint, NO_EXTRAS, run, type RunEvent, type RunRecords } from '../train/run.ts'
import { type EvalRecord, methodDefaults, RUN_OPTIONS, type RunConfig, type RunOptions, type StepRecord } from '../train/run_config.ts'
import { RunControl } from '../train/run_control.ts'
import { Trainer } from '../train/trainer.ts'
import { findMethod, type LoadedAdapter, TunableLayout } from '../train/tunable.ts'
import { type Args, baseOf, policyOf, parsePairs } from './args.ts'
import type { GpuSource } from './gpu.ts'
import { loadAdapter, loadModel, loadRows } from './load.ts'
import type { Output } from './output.ts'
import { makeFolder, saveFiles } from './save.ts'

/** Method, its options and the run's, checked as far as arguments alone allow. With --adapter the method is known later. */
interface Wanted {
  readonly method: AnyMethod | null
  readonly options: Json
  readonly run: RunOptions
}

/** Throws OptionError. */
export function readArguments(args: Args): Wanted {
  const id = args.text('method')
  const adapter = args.text('adapter')
  const named = id === null ? null : findMethod(id)
  if (adapter !== null && named?.slot === 'weights')
    throw new OptionError(`${named.id} trains the model itself`, {
      where: '--adapter',
      fix: 'Leave out --adapter, or name a method that makes adapters',
    })
  const method = named ?? (adapter === null ? findMethod('lora') : null)
  const options =
    method && adapter === null ? parseOptions(method.options, parsePairs(method.options, args.pairs('set'), `method ${method.id}`)) : {}
  return { method, options, run: parseOptions(RUN_OPTIONS, { ...args.given(RUN_OPTIONS), base: baseOf(args), policy: policyOf(args) }) }
}

/** The rate that a method works with, unless one was given. */
const withRate = (run: RunOptions, method: AnyMethod, width: number, args: Args): RunOptions => ({
  ...run,
  lr: args.has('lr') ? run.lr : methodDefaults(method, width).lr,
})

export async function tuneCommand(args: Args, out: Output, gpus: GpuSource): Promise<void> {
  const wanted = readArguments(args)
  const folder = args.required('out')
  const bundle = await loadModel(args.required('model'), out, { seed: args.number('seed') })
  const loaded = args.has('adapter') ? await loadAdapter(bundle, args.required('adapter'), args.pairs('set'), out) : null
  if (loaded && wanted.method && wanted.method.id !== loaded.method.id)
    throw new OptionError(`the adapter was made with ${loaded.method.id}`, {
      where: `--method ${wanted.method.id}`,
      fix: 'Leave out --method, or start without --adapter',
    })
  const method = loaded?.method ?? wanted.method!
  const options = parseOptions(method.options, loaded?.options ?? wanted.options)
  const config: RunConfig = { method: method.id, options, run: withRate(wanted.run, method, bundle.config.hiddenSize, args) }
  const data = await loadRows(args.required('data'), bundle, config.run.seq, out)
  const held = args.has('eval') ? await loadRows(args.required('eval'), bundle, config.run.seq, out) : null
  await makeFolder(folder)
  const gpu = await gpus.open({ tune: args.has('tune') ? args.switch('tune') : 'auto', note: (n) => out.note(n) })
  try {
    await train({ args, out, folder, bundle, loaded, method, config, data, held, gpu })
  } finally {
    gpus.close(gpu)
  }
}

interface Job {
  readonly args: Args
  readonly out: Output
  readonly folder: string
  readonly bundle: ModelBundle
  readonly loaded: LoadedAdapter | null
  readonly method: AnyMethod
  readonly config: RunConfig
  readonly data: Dataset
  readonly held: Dataset | null
  readonly gpu: Gpu
}

/** The run was ended while there was nothing to keep. */
const stoppedEarly = (): RunError =>
  new RunError('stopped before the first step was done', {
    why: 'Nothing is trained yet, so nothing was written',
    fix: 'Start the run again',
  })

async function train(job: Job): Promise<void> {
  const { out, bundle, loaded, method, config, data, gpu } = job
  const { run: o } = config
  const t = new TunableLayout(
    bundle,
    method,
    config.options,
    { base: o.base, seed: o.seed, trainable: true, maxBindingSize: gpu.traits.maxBindingSize, optim: o.optim },
    loaded,
  )
  for (const note of t.notes.filter((n) => !loaded?.notes.includes(n))) out.note(note)
  const context = bundle.config.context
  if (o.seq + (t.adapter?.virtualTokens ?? 0) > context)
    out.note(`Rows may be longer than the ${context} tokens that ${bundle.files.name} was made for.`)
  const step = makeableStep(gpu, t, o)
  const source = new BatchSource(data.train, o)
  let trainer: Trainer | null = null
  const control = new RunControl()
  const loading = new AbortController()
  const interrupt = (): void => {
    if (trainer) out.note('Stopping after this step; what is trained is kept. Once more ends at once.')
    else loading.abort(stoppedEarly())
    control.stop()
  }
  process.once('SIGINT', interrupt)
  try {
    await t.fill(gpu, { signal: loading.signal, onProgress: (done, total) => out.bar(done, total, 'loading the model') })
    trainer = await Trainer.create(gpu, t, o, step)
    loading.signal.throwIfAborted()
    for (const note of trainer.notes) out.note(note)
    const records = await follow(job, t, trainer, source, control)
    if (trainer.done === 0) throw stoppedEarly()
    // Counted before the export: reading back makes buffers of its own.
    const counts = {
      planned_bytes: trainer.program.plan.total,
      allocated_bytes: gpu.allocatedBytes,
      dispatches: dispatchesOf(trainer, o.accum),
      submits: trainer.submits,
    }
    await saveFiles(job.folder, await result(job, t, await t.trained!.read(), records))
    const megabytes = (n: number): string => `${(n / 1e6).toFixed(1)} MB`
    out.result(
      { done: true, ...counts },
      `${trainer.done} steps done; ${job.folder} holds the ${method.slot === 'weights' ? 'model' : 'adapter'}. GPU memory planned ${megabytes(counts.planned_bytes)}, allocated ${megabytes(counts.allocated_bytes)}; a step is ${counts.dispatches} dispatches in ${counts.submits} submits.`,
    )
  } finally {
    process.off('SIGINT', interrupt)
    trainer?.destroy()
    t.destroy()
  }
}

type Records = Pick<RunRecords, 'steps' | 'evals'>
/** Steps between copies of the trained values on the host: what is left should the GPU go away. */
const COPY_EVERY = 100

/** Runs and says what happens. Where the run fails, the last good values are written before the error goes on. */
async function follow(job: Job, t: TunableLayout, trainer: Trainer, source: BatchSource, control: RunControl): Promise<Records> {
  const { args, out, held, config } = job
  const evalEvery = held ? args.number('eval_every') || config.run.steps : 0
  const extras = {
    ...NO_EXTRAS,
    evalEvery,
    patience: args.number('patience'),
    keepBest: args.switch('keep_best'),
    checkpointEvery: COPY_EVERY,
  }
  const steps: StepRecord[] = []
  const evals: EvalRecord[] = []
  const say = reporter(out, config.run.steps)
  let last: { readonly step: number; readonly values: State } | null = null
  const save = ({ state }: Checkpoint): Promise<void> => {
    last = { step: state.step, values: t.trained!.valuesOf(state.arenas.map((a) => a.param)) }
    return Promise.resolve()
  }
  try {
    for await (const event of run({ trainer, source, held: held?.train ?? null, extras, control, save })) {
      if (event.type === 'step') steps.push(event.record)
      if (event.type === 'eval') evals.push(event.record)
      say(event)
    }
  } catch (e) {
    const kept = last as { readonly step: number; readonly values: State } | null
    if (kept && kept.step > 0) {
      const until = <R extends { readonly step: number }>(records: readonly R[]): R[] => records.filter((r) => r.step <= kept.step)
      await saveFiles(job.folder, await result(job, t, kept.values, { steps: until(steps), evals: until(evals) }))
      out.note(`The values after step ${kept.step} are kept in ${job.folder}.`)
    }
    throw e
  }
  return { steps, evals }
}

/** Kernel dispatches of one optimizer step with its micro-batches. */
function dispatchesOf(trainer: Trainer, accum: number): number {
  const calls = (name: string): number => trainer.program.plan.specs.find((s) => s.name === name)?.graph.calls.length ?? 0
  return accum * calls('micro') + calls('update')
}

/** The files that hold these trained values. */
async function result({ bundle, config, data, gpu }: Job, t: TunableLayout, state: State, records: Records): Promise<ExportItem[]> {
  const baseModel = bundle.files.name
  const { vendor, architecture, description } = gpu.traits
  const manifest: Manifest = {
    etude: VERSION,
    model: { name: baseModel, architecture: bundle.config.architecture, fingerprint: await fingerprint(bundle.files) },
    data: { name: data.name, sha256: data.dataHash, rows: data.stats.usable },
    config,
    device: description || `${vendor} ${architecture}`,
    ...records,
  }
  return t.adapter
    ? adapterFiles(t.adapter, state, { baseModel, seed: config.run.seed, manifest })
    : modelFiles(bundle, { trained: state }, { baseModel, manifest })
}

const short = (n: number): string => n.toPrecision(4)

/** Says a run's events as they come. */
function reporter(out: Output, total: number): (event: RunEvent) => void {
  let ms = 0
  return (event) => {
    switch (event.type) {
      case 'step': {
        const s = event.record
        const text = `step ${s.step}/${total}  loss ${s.loss.toFixed(4)}  grad norm ${short(s.grad_norm)}  lr ${short(s.lr)}  ${Math.round(s.tokens / (s.ms / 1000))} tok/s`
        ms = ms === 0 ? s.ms : 0.9 * ms + 0.1 * s.ms
        if (out.json || !out.hasBar) out.result(s, text)
        out.bar(s.step, total, `${text}  ${Math.ceil(((total - s.step) * ms) / 1000)} s left`)
        break
      }
      case 'eval':
        out.result(
          { eval: event.record },
          `held-out loss ${event.record.loss.toFixed(4)} after ${event.record.step} steps (perplexity ${short(event.record.perplexity)})`,
        )
        break
      case 'done':
        if (event.reason === 'patience') out.note(`Stopped after ${event.step} steps: the held-out loss no longer falls.`)
        if (event.restored)
          out.note(
            `The values of step ${event.restored.step} are kept: its held-out loss, ${event.restored.loss.toFixed(4)}, was the lowest.`,
          )
        break
      default:
        break
    }
  }
}
