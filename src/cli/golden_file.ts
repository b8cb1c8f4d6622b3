/** @file Reads reference values of PEFT methods: an object of variants, each a config and tensors as {shape, data}. */
import { FileError } from '../errors.ts'
import { isObject, readJsonObject } from '../io/json.ts'
import type { ByteSource } from '../io/source.ts'
import type { Json } from '../peft/method.ts'
import { numel, type Shape } from '../tensor/graph.ts'

export interface GoldenTensor {
  readonly shape: Shape
  readonly data: Float32Array<ArrayBuffer>
}
type Tensors = ReadonlyMap<string, GoldenTensor>

/** One variant: L = sum(y ∘ G) for y = layer(x). */
export interface GoldenVariant {
  readonly name: string
  /** adapter_config.json as PEFT writes it. */
  readonly config: Json
  /** Frozen weights; adapter tensors at the start and moved off it. Keys without a trailing ".weight" for the adapter's. */
  readonly base: Tensors
  readonly init: Tensors
  readonly adapter: Tensors
  readonly x: GoldenTensor
  readonly G: GoldenTensor
  readonly y: GoldenTensor
  readonly yAtInit: GoldenTensor | null
  readonly grads: Tensors
  readonly gradX: GoldenTensor | null
  readonly merged: Tensors | null
}

/** PEFT writes DoRA's magnitude with and without ".weight": names are compared without. */
export const bareKey = (key: string): string => key.replace(/\.weight$/, '')

const fail = (where: string, what: string): never => {
  throw new FileError(what, {
    where,
    why: 'nothing can be compared with it',
    fix: 'Use a file of reference values: variants by name, each with config, base, init, adapter, x, G, y, grads',
  })
}

function tensor(v: unknown, where: string): GoldenTensor {
  if (!isObject(v) || !Array.isArray(v.shape) || !Array.isArray(v.data))
    return fail(where, 'there is no tensor {"shape": […], "data": […]}')
  const shape = v.shape.map(Number)
  const data = Float32Array.from(v.data, Number)
  if (data.length !== numel(shape) || data.some(Number.isNaN))
    return fail(where, `its ${data.length} values are not the numbers of shape [${shape.join(', ')}]`)
  return { shape, data }
}
const optional = (v: unknown, where: string): GoldenTensor | null => (v === undefined || v === null ? null : tensor(v, where))

function tensors(v: unknown, where: string, rename: (key: string) => string = (k) => k): Tensors {
  if (!isObject(v)) return fail(where, 'there are no tensors by name')
  return new Map(Object.entries(v).map(([k, t]) => [rename(k), tensor(t, `${where}, ${k}`)]))
}

/** Every variant of a file, in its order. Throws FileError naming file, variant and field. */
export async function readGoldens(source: ByteSource): Promise<GoldenVariant[]> {
  const json = await readJsonObject(source, 2 ** 29)
  const variants = Object.entries(json)
  if (variants.length === 0) return fail(source.name, 'there is no variant in it')
  return variants.map(([name, v]) => {
    const at = (field: string): string => `${source.name}, ${name}, ${field}`
    if (!isObject(v)) return fail(`${source.name}, ${name}`, 'it is not an object')
    if (!isObject(v.config)) return fail(at('config'), 'it is not an object')
    return {
      name,
      config: v.config,
      base: tensors(v.base, at('base')),
      init: tensors(v.init ?? {}, at('init'), bareKey),
      adapter: tensors(v.adapter, at('adapter'), bareKey),
      x: tensor(v.x, at('x')),
      G: tensor(v.G, at('G')),
      y: tensor(v.y, at('y')),
      yAtInit: optional(v.y_at_init, at('y_at_init')),
      grads: tensors(v.grads, at('grads'), bareKey),
      gradX: optional(v.grad_x, at('grad_x')),
      merged: v.merged === undefined || v.merged === null ? null : tensors(v.merged, at('merged')),
    }
  })
}
