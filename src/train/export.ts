/** @file What a run leaves: an adapter as PEFT reads it, or a whole model as Transformers reads it, with a model card and a manifest that says how it was made. */
import { RunError } from '../errors.ts'
import { adapterConfigJson } from '../io/adapter_files.ts'
import { fromFloat32 } from '../io/dequantize.ts'
import type { Json } from '../models/family.ts'
import type { TensorStream } from '../io/safetensors_writer.ts'
import { writeSafetensors } from '../io/safetensors_writer.ts'
import { numel } from '../tensor/graph.ts'
import { Adapter, type State } from './adapter.ts'
import { type ModelBundle, paramShape, readFloats, stored, tensorName } from './bundle.ts'
import { modelCard } from './model_card.ts'
import type { EvalRecord, RunConfig, StepRecord } from './run_config.ts'

export const VERSION = '0.1.0'

/** How a run was made: enough to repeat it. Written beside the weights as etude_run.json. */
export interface Manifest {
  readonly etude: string
  readonly model: { readonly name: string; readonly architecture: string; readonly fingerprint: string }
  readonly data: { readonly name: string; readonly sha256: string; readonly rows: number }
  readonly config: RunConfig
  readonly device: string
  readonly steps: readonly StepRecord[]
  readonly evals: readonly EvalRecord[]
}

/** A file to write; a model's weights come as a stream of tensors. */
export type ExportItem =
  | { readonly name: string; readonly data: Uint8Array<ArrayBuffer> | string }
  | { readonly name: string; readonly tensors: readonly TensorStream[] }

/** The adapter's state and options in the form that needs no replaced weights (PiSSA and OLoRA become LoRA of twice the rank). */
async function standalone(adapter: Adapter, state: State, seed: number): Promise<{ adapter: Adapter; state: State }> {
  const { method, bundle, options } = adapter
  if (method.slot !== 'linear' || !method.standalone || !adapter.replaces) return { adapter, state }
  const start = await adapter.initial(seed)
  const out = new Map<string, { shape: readonly number[]; data: Float32Array<ArrayBuffer> }>()
  let made: Adapter | null = null
  for (const { name, keys } of adapter.sites()) {
    const pick = (s: State) => Object.fromEntries(Object.entries(keys).map(([p, key]) => [p, s.get(key)!.data]))
    const { options: o, params } = method.standalone(pick(state), pick(start), options)
    made ??= new Adapter(bundle, method, o, { trainable: false, maxBindingSize: Infinity, targets: adapter.targets })
    const shapes = made.sites().find((s) => s.name === name)!.shapes
    for (const [p, data] of Object.entries(params)) out.set(keys[p], { shape: shapes[p], data })
  }
  return { adapter: made ?? adapter, state: out }
}

/** adapter_model.safetensors, adapter_config.json, README.md, etude_run.json. `state`: the adapter's parameters; `seed`: the run's. */
export async function adapterFiles(
  adapter: Adapter,
  state: State,
  o: { baseModel: string; seed: number; manifest: Manifest | null },
): Promise<ExportItem[]> {
  const out = await standalone(adapter, state, o.seed)
  const tensors = [...out.state].map(([name, { shape, data }]) => ({ name, type: 'F32' as const, shape, data }))
  return [
    { name: 'adapter_model.safetensors', data: writeSafetensors(tensors) },
    { name: 'adapter_config.json', data: adapterConfigJson(out.adapter.config(o.baseModel)) },
    { name: 'README.md', data: modelCard({ kind: 'adapter', method: adapter.method, baseModel: o.baseModel, manifest: o.manifest }) },
    ...(o.manifest ? [manifestFile(o.manifest)] : []),
  ]
}
const manifestFile = (m: Manifest): ExportItem => ({ name: 'etude_run.json', data: `${JSON.stringify(m, null, 2)}\n` })

const json = (v: unknown): string => `${JSON.stringify(v, null, 2)}\n`
/** Fields that Transformers 5 takes as floats alone: it refuses the 30 that JavaScript writes for 30.0. */
const FLOATS = /"(initializer_range|init_std|rms_norm_eps|layer_norm_epsilon|(?:final|attn)_logit_softcapping)": (\d+)(?=[,\n])/g
const configJson = (config: Json): string => json(config).replace(FLOATS, '"$1": $2.0')

/** A whole model folder: the frozen model with an adapter merged in, or (`trained`) the trained parameters themselves. Weights are merged in f32 and stored
 * in the source's floating-point type; a block-quantised source becomes F16. */
export function modelFiles(
  bundle: ModelBundle,
  change: { readonly adapter: Adapter; readonly state: State } | { readonly trained: State },
  o: { baseModel: string; manifest: Manifest | null },
): ExportItem[] {
  const values = new Map<string, () => Promise<Float32Array<ArrayBuffer>>>()
  if ('trained' in change) for (const [key, { data }] of change.trained) values.set(key, () => Promise.resolve(data))
  else {
    if (!change.adapter.method.merges)
      throw new RunError(`${change.adapter.method.title} cannot be merged into the weights`, {
        why: 'it acts on the input, not on a weight',
        fix: 'Export the adapter instead',
      })
    for (const name of change.adapter.targets) {
      values.set(`${name}.weight`, () => change.adapter.mergedWeight(name, change.state))
      values.set(`${name}.bias`, () => change.adapter.mergedBias(name, change.state))
    }
  }
  const types = new Set<string>()
  const tensors = bundle.params.flatMap((p): TensorStream[] => {
    const own: { name: string; shape: readonly number[]; turned?: boolean }[] = [
      { name: tensorName(p), shape: paramShape(p), turned: p.kind === 'linear' && bundle.family.conv1d?.(p.name) === true },
    ]
    if (p.kind === 'linear' && p.bias) own.push({ name: `${p.name}.bias`, shape: [p.rows] })
    return own.map(({ name, shape, turned }) => {
      const source = stored(bundle, name, shape).type
      const type = source === 'F32' || source === 'BF16' ? source : source === 'F64' ? 'F32' : numel(shape) === shape[0] ? 'F32' : 'F16'
      types.add(type)
      const load = async (): Promise<Float32Array<ArrayBuffer>> => values.get(name)?.() ?? readFloats(bundle, name, shape)
      return turned
        ? { name, type, shape: [shape[1], shape[0]], load: async () => fromFloat32(type, transpose(await load(), shape[0], shape[1])) }
        : { name, type, shape, load: async () => fromFloat32(type, await load()) }
    })
  })
  const dtype = types.has('F16') ? 'float16' : types.has('BF16') ? 'bfloat16' : 'float32'
  const { tokenizer, generationConfig } = bundle.files
  return [
    { name: 'model.safetensors', tensors },
    {
      name: 'config.json',
      data: configJson({ ...bundle.rawConfig, ...('dtype' in bundle.rawConfig ? { dtype } : { torch_dtype: dtype }) }),
    },
    ...(tokenizer
      ? [
          { name: 'tokenizer.json', data: json(tokenizer.tokenizer) },
          { name: 'tokenizer_config.json', data: json(tokenizer.config) },
        ]
      : []),
    ...(generationConfig ? [{ name: 'generation_config.json', data: json(generationConfig) }] : []),
    {
      name: 'README.md',
      data: modelCard({
        kind: 'model',
        method: 'adapter' in change ? change.adapter.method : null,
        baseModel: o.baseModel,
        manifest: o.manifest,
      }),
    },
    ...(o.manifest ? [manifestFile(o.manifest)] : []),
  ]
}

/** [R, C] as [C, R]. */
function transpose(values: Float32Array, R: number, C: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length)
  for (let r = 0; r < R; r++) for (let c = 0; c < C; c++) out[c * R + r] = values[r * C + c]
  return out
}
