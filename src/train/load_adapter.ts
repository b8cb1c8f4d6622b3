/** @file Reading an adapter: its method and options from adapter_config.json, its tensors checked by name, shape and value against the model. */
import { AdapterError, OptionError } from '../errors.ts'
import { toFloat32 } from '../io/dequantize.ts'
import type { StoredTensor } from '../io/source.ts'
import { embeddingSize } from '../models/family.ts'
import { type Options, parseOptions, type Values } from '../options.ts'
import type { AnyInputMethod, AnyLinearMethod, AnyMethod, Json } from '../peft/method.ts'
import { numel, type Shape } from '../tensor/graph.ts'
import { facts, PROMPT_KEY, type State, stateKey } from './adapter.ts'
import type { ModelBundle } from './bundle.ts'

/** Values of a config, within what the method declares. */
function usable(m: AnyLinearMethod | AnyInputMethod, values: Values<Options>): Values<Options> {
  try {
    return parseOptions(m.options, values)
  } catch (e) {
    if (!(e instanceof OptionError)) throw e
    throw new AdapterError(e.what, {
      where: `adapter_config.json, ${e.where}`,
      why: `${m.title} cannot be computed with it`,
      fix: 'Take the file from where the adapter was trained',
    })
  }
}

/** The method and options of an adapter_config.json. Throws AdapterError where there is none here. */
export function methodOf(config: Json, methods: Iterable<AnyMethod>): { method: AnyLinearMethod | AnyInputMethod; options: Json } {
  const type = config.peft_type
  const list = [...methods]
  for (const m of list)
    if (m.slot !== 'weights' && m.peftType === type && m.matches(config)) return { method: m, options: usable(m, m.fromConfig(config)) }
  const known = [...new Set(list.flatMap((m) => (m.slot === 'weights' ? [] : [m.peftType])))].join(', ')
  throw new AdapterError(`peft_type ${JSON.stringify(type ?? null)} is not supported`, {
    where: 'adapter_config.json',
    why: 'it says what the tensors mean',
    fix: `Use an adapter of one of: ${known}`,
  })
}

/** The name a parameter has in a file: PEFT's, or the same with the adapter's own name left in (lora_A.default.weight) or, for a bare parameter, with
 * ".weight" after it (lora_magnitude_vector.weight), as files written straight from a model's state dict have them. */
function storedKey(names: ReadonlyMap<string, unknown>, key: string): string | null {
  if (names.has(key)) return key
  const [stem, end] = key.endsWith('.weight') ? [key.slice(0, -'.weight'.length), '.weight'] : [key, '']
  for (const name of names.keys())
    if (name.startsWith(`${stem}.`) && /^\.[^.]+(\.weight)?$/.test(name.slice(stem.length)) && (end === '' || name.endsWith(end)))
      return name
  return null
}

/** Read an adapter's tensors and find the modules they sit on. Checks names and shapes against the model. */
export async function loadState(
  b: ModelBundle,
  method: AnyLinearMethod | AnyInputMethod,
  options: Json,
  tensors: ReadonlyMap<string, StoredTensor>,
): Promise<{ values: State; targets: readonly string[] }> {
  const values = new Map<string, { shape: Shape; data: Float32Array<ArrayBuffer> }>()
  const o = parseOptions(method.options, options)
  const read = async (key: string, t: StoredTensor, shape: Shape): Promise<void> => {
    if (t.shape.length !== shape.length || t.shape.some((n, i) => n !== shape[i]))
      throw new AdapterError(`the shape is [${t.shape.join(', ')}], this model and config need [${shape.join(', ')}]`, {
        where: `adapter_model.safetensors, ${t.name}`,
        why: 'the adapter was trained on another model, or its config was changed',
        fix: 'Load the model that the adapter was trained on',
      })
    const data = toFloat32(t.type, await t.source.read(t.offset, t.bytes), numel(shape))
    const bad = data.findIndex((v) => !Number.isFinite(v))
    if (bad >= 0)
      throw new AdapterError(`element ${bad} is ${data[bad]}`, {
        where: `adapter_model.safetensors, ${t.name}`,
        why: 'every output would be NaN',
        fix: 'Export the adapter again from a run that did not diverge',
      })
    values.set(key, { shape, data })
  }
  if (method.slot === 'input') {
    const t = tensors.get(PROMPT_KEY)
    if (!t)
      throw new AdapterError(`the tensor ${PROMPT_KEY} is missing`, { where: 'adapter_model.safetensors', fix: 'Export the adapter again' })
    await read(PROMPT_KEY, t, [method.virtualTokens(o), embeddingSize(b.config)])
    return { values, targets: [] }
  }
  const byKey = new Map(tensors)
  const targets: string[] = []
  for (const p of b.params) {
    if (p.kind !== 'linear') continue
    const specs = Object.entries(method.params(facts(p), o)).map(([name, spec]) => {
      const key = stateKey(p.name, method.key(name))
      return { key, spec, stored: storedKey(byKey, key) }
    })
    const found = specs.filter((s) => s.stored !== null)
    if (found.length === 0) continue
    const missing = specs.find((s) => s.stored === null)
    if (missing)
      throw new AdapterError(`the tensor ${missing.key} is missing`, {
        where: 'adapter_model.safetensors',
        why: `${found[0].key} is there, and the two belong together`,
        fix: 'Export the adapter again',
      })
    for (const { key, spec, stored } of specs) {
      await read(key, byKey.get(stored!)!, spec.shape)
      byKey.delete(stored!)
    }
    targets.push(p.name)
  }
  const left = byKey.keys().next().value
  if (left !== undefined || targets.length === 0)
    throw new AdapterError(left === undefined ? 'there is no tensor for this model' : `the tensor ${left} has no place in this model`, {
      where: 'adapter_model.safetensors',
      why: 'the adapter was trained on a model with other layers, or with another method',
      fix: 'Load the model that the adapter was trained on',
    })
  return { values, targets }
}
