/** @file `plan`: what a run would take, without reading a weight. */
import { targetOf } from '../gpu/device.ts'
import { makeableStep } from '../train/limits.ts'
import { stepsByCost } from '../train/policy.ts'
import { TunableLayout } from '../train/tunable.ts'
import { parseOptions } from '../options.ts'
import type { Args } from './args.ts'
import type { GpuSource } from './gpu.ts'
import { loadModel } from './load.ts'
import type { Output } from './output.ts'
import { readArguments } from './tune_command.ts'

const megabytes = (n: number): string => `${(n / 1e6).toFixed(1)} MB`
export async function planCommand(args: Args, out: Output, gpus: GpuSource): Promise<void> {
  const { method, options, run } = readArguments(args)
  const bundle = await loadModel(args.required('model'), out, { configAlone: true })
  // Nothing is computed: there is nothing to measure for.
  const gpu = await gpus.open()
  try {
    const { maxBindingSize } = gpu.traits
    const o = { base: run.base, seed: run.seed, trainable: true, maxBindingSize, optim: run.optim }
    const layout = new TunableLayout(bundle, method, parseOptions(method!.options, options), o)
    const target = targetOf(gpu.traits)
    const step = makeableStep(gpu, layout, run)
    const { total, ...by_class } = step.memory
    const policies = stepsByCost(layout, run, target, step).map(({ step: s, arithmetic }) => ({
      policy: s.keeping.policy,
      planned_bytes: s.plan.total,
      dispatches: s.dispatches,
      arithmetic,
      checkpoint_every: s.keeping.checkpointEvery,
    }))
    const rows = policies.map(
      (p) =>
        `  ${p.policy.padEnd(12)}${megabytes(p.planned_bytes).padStart(12)}${String(p.dispatches).padStart(8)} dispatches${p.arithmetic.toFixed(2).padStart(8)} x the arithmetic${p.checkpoint_every ? `, inputs of every ${p.checkpoint_every === 1 ? 'block' : `${p.checkpoint_every} blocks`} kept` : ''}`,
    )
    out.result(
      { planned_bytes: total, by_class, policy: step.keeping.policy, dispatches: step.dispatches, policies },
      `${megabytes(total)} of GPU memory, policy ${step.keeping.policy}: ${Object.entries(by_class)
        .map(([k, v]) => `${k} ${megabytes(v)}`)
        .join(', ')}.\nBy policy:\n${rows.join('\n')}`,
    )
  } finally {
    gpus.close(gpu)
  }
}
