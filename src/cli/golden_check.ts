/** @file One variant of a golden file on the GPU: the registered method's forward pass, gradients and merge beside the file's. */
import { backward } from '../autograd/backward.ts'
import { linear } from '../autograd/ops/linear.ts'
import { AdapterError } from '../errors.ts'
import { type Gpu, targetOf } from '../gpu/device.ts'
import { parseOptions } from '../options.ts'
import { addUpdate, loraScale, type LoraValues } from '../peft/lora.ts'
import type { AnyLinearMethod, LinearSite } from '../peft/method.ts'
import { METHODS } from '../peft/registry.ts'
import { Graph, numel, ScalarInput, type Shape, type Tensor } from '../tensor/graph.ts'
import { Session, SessionPlan } from '../tensor/program.ts'
import { Storage } from '../tensor/storage.ts'
import { methodOf } from '../train/load_adapter.ts'
import { bareKey, type GoldenTensor, type GoldenVariant } from './golden_file.ts'

export type GoldenResult =
  | {
      readonly name: string
      /** Largest absolute error of the output, also of the one at the start. */
      readonly forward: number
      /** Largest error of a gradient (every trained tensor's and the input's) over that gradient's largest magnitude. */
      readonly gradients: number
      /** Largest absolute error of the merged weight; null where the file has none. */
      readonly merged: number | null
    }
  | { readonly name: string; readonly missing: true; readonly why: string }

type Values = Readonly<Record<string, GoldenTensor>>
interface Layer {
  readonly module: string
  readonly weight: GoldenTensor
  readonly bias: GoldenTensor | null
}

const largest = (a: Float32Array): number => a.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
/** Largest absolute difference; NaN where there is one, Infinity for unequal lengths. */
export const worst = (a: Float32Array, b: Float32Array): number =>
  a.length === b.length ? a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i])), 0) : Infinity

/** Compare one variant. A variant that no registered method is comes back as missing, with why. */
export async function checkVariant(gpu: Gpu, v: GoldenVariant): Promise<GoldenResult> {
  const missing = (why: string): GoldenResult => ({ name: v.name, missing: true, why })
  let found: ReturnType<typeof methodOf>
  try {
    found = methodOf(v.config, METHODS.values())
  } catch (e) {
    if (!(e instanceof AdapterError)) throw e
    return missing(e.what)
  }
  const { method } = found
  if (method.slot !== 'linear') return missing(`${method.id} acts on the model's input, not on a layer`)
  const layer = layerOf(v)
  if (!layer) return missing('it has no linear layer')
  const o = parseOptions(method.options, found.options)
  const site = { name: layer.module, outFeatures: layer.weight.shape[0], inFeatures: layer.weight.shape[1] }
  const names = Object.keys(method.params(site, o))
  const keys = Object.fromEntries(names.map((p) => [p, bareKey(`base_model.model.${layer.module}.${method.key(p)}`)]))
  const trained = [...v.grads.keys()].sort().join(', ')
  if (trained !== Object.values(keys).sort().join(', '))
    return missing(`it trains ${trained}, ${method.id} trains ${Object.values(keys).sort().join(', ')}`)
  const pick = (from: ReadonlyMap<string, GoldenTensor>): Values | null =>
    names.every((p) => from.has(keys[p])) ? Object.fromEntries(names.map((p) => [p, from.get(keys[p])!])) : null
  const adapter = pick(v.adapter)
  const init = pick(v.init)
  if (!adapter) return missing(`the file lacks a tensor of ${method.id}`)

  const frozen = residual(layer, init, o)
  const job = { method, options: o, layer: { ...layer, weight: { ...layer.weight, data: frozen } }, x: v.x, G: v.G }
  const got = await compute(gpu, { ...job, params: adapter })
  let forward = worst(got.y, v.y.data)
  if (init && v.yAtInit) forward = Math.max(forward, worst((await compute(gpu, { ...job, params: init })).y, v.yAtInit.data))
  let gradients = v.gradX ? worst(got.x, v.gradX.data) / largest(v.gradX.data) : 0
  for (const p of names) {
    const want = v.grads.get(keys[p])!.data
    gradients = Math.max(gradients, worst(got.grads[p], want) / Math.max(largest(want), 1e-12))
  }
  const reference = v.merged?.get(`${layer.module}.weight`)
  const raw = Object.fromEntries(names.map((p) => [p, adapter[p].data]))
  const merged =
    reference && method.merges
      ? worst(method.merge({ ...site, weight: () => Promise.resolve(frozen) }, frozen, raw, o), reference.data)
      : null
  return { name: v.name, forward, gradients, merged }
}

/** The linear layer of a variant, or null (a norm's weight has one axis). */
function layerOf(v: GoldenVariant): Layer | null {
  for (const [key, weight] of v.base)
    if (key.endsWith('.weight') && weight.shape.length === 2) {
      const module = bareKey(key)
      return { module, weight, bias: v.base.get(`${module}.bias`) ?? null }
    }
  return null
}

/** What stays frozen: the weight, without what PiSSA and OLoRA took out of it at the start. */
function residual({ weight }: Layer, init: Values | null, o: Partial<LoraValues>): Float32Array<ArrayBuffer> {
  const taken = o.init_lora_weights === 'pissa' || o.init_lora_weights === 'olora'
  if (!taken || !init?.lora_A || !init.lora_B) return new Float32Array(weight.data)
  const lora = o as LoraValues
  return addUpdate(weight.data, init.lora_A.data, init.lora_B.data, lora.r, -loraScale(lora))
}

interface Job {
  readonly method: AnyLinearMethod
  readonly options: Parameters<AnyLinearMethod['forward']>[3]
  readonly layer: Layer
  readonly x: GoldenTensor
  readonly G: GoldenTensor
  readonly params: Values
}

/** Output and gradients of sum(y ∘ G), computed with the kernels that training uses. */
async function compute(gpu: Gpu, job: Job): Promise<{ y: Float32Array; x: Float32Array; grads: Readonly<Record<string, Float32Array>> }> {
  const g = new Graph(targetOf(gpu.traits))
  const contents = new Map<Storage, Float32Array<ArrayBuffer>>()
  const buffer = (shape: Shape, data: Float32Array<ArrayBuffer>): Tensor => {
    const storage = new Storage('golden', numel(shape) * 4, 'weights')
    contents.set(storage, data)
    return g.leaf(storage, shape)
  }
  const leaf = ({ shape, data }: GoldenTensor): Tensor => buffer(shape, data)
  const trained = ({ shape, data }: GoldenTensor): Tensor => {
    const sink = buffer(shape, new Float32Array(data.length))
    const { storage } = buffer(shape, data)
    return g.leaf(storage!, shape, { needsGrad: true, sink })
  }
  const { module, weight, bias } = job.layer
  const [rows, cols] = [weight.shape[0], weight.shape[1]]
  const w = { format: 'f32', rows, cols, data: leaf(weight), scales: null } as const
  const b = bias && leaf(bias)
  const range = { from: 0, rows }
  const site: LinearSite = {
    name: module,
    members: [module],
    inFeatures: cols,
    outFeatures: rows,
    weight: w,
    range,
    segments: [],
    bias: b,
    residual: null,
    base: (x) => linear(x, w, { bias: b, range }),
  }
  const x = trained(job.x)
  const params = Object.fromEntries(Object.entries(job.params).map(([name, t]) => [name, trained(t)]))
  const y = job.method.forward(x, site, params, job.options, { training: true, seed: new ScalarInput(0), stream: 0 })
  backward(y, leaf(job.G))
  for (const [s, data] of contents) s.allocate(gpu).write(data)
  const session = await Session.create(gpu, new SessionPlan([{ name: 'golden', graph: g, keep: [y] }]))
  try {
    const program = session.programs[0]
    program.run()
    const grads: Record<string, Float32Array> = {}
    for (const [name, p] of Object.entries(params)) grads[name] = await program.read(p.sink!)
    return { y: await program.read(y), x: await program.read(x.sink!), grads }
  } finally {
    session.destroy()
    for (const s of contents.keys()) s.destroy()
  }
}
