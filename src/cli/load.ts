/** @file Opens what the command line names: models, adapters, data files. */
import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { ROOT } from '../../scripts/install.mjs'
import { buildDataset, type Dataset } from '../data/dataset.ts'
import { inspectFile } from '../data/inspect.ts'
import { DEFAULT_DATA_OPTIONS } from '../data/report.ts'
import { loadTokenizer } from '../data/tokenizer.ts'
import type { Tokenizer } from '../data/types.ts'
import { FileError, ModelError, OptionError } from '../errors.ts'
import { readAdapter } from '../io/adapter_files.ts'
import { readJsonObject } from '../io/json.ts'
import { openModel } from '../io/model_files.ts'
import { fromPath, readPath } from '../io/node_source.ts'
import { embeddingSize } from '../models/family.ts'
import { parseOptions } from '../options.ts'
import type { AnyInputMethod, AnyLinearMethod, Json } from '../peft/method.ts'
import { METHODS } from '../peft/registry.ts'
import { suffixes } from '../peft/targets.ts'
import { methodOf } from '../train/load_adapter.ts'
import { type ModelBundle, openBundle } from '../train/bundle.ts'
import { randomModel } from '../train/random_model.ts'
import { type LoadedAdapter, openAdapter } from '../train/tunable.ts'
import { parsePairs } from './args.ts'
import type { Output } from './output.ts'

/** The model that `random:<config.json>` names: its shapes, with seeded random weights. */
async function openRandom(path: string, seed: number): Promise<ModelBundle> {
  return openBundle(randomModel(await readJsonObject(await fromPath(path)), basename(dirname(resolve(path))), seed))
}

/** `starter`, a folder, a .gguf file or `random:<config.json>`; with `configAlone`, a config.json too. `seed`: of random weights. Throws FileError or ModelError naming the file. */
export async function loadModel(named: string, out: Output, o: { configAlone?: boolean; seed?: number } = {}): Promise<ModelBundle> {
  const random = /^random:(.+)$/.exec(named)?.[1]
  if (random) {
    const bundle = await openRandom(random, o.seed ?? 0)
    for (const note of bundle.files.notes) out.note(note)
    return bundle
  }
  if (o.configAlone && named.endsWith('.json')) return openRandom(named, 0)
  const path = named === 'starter' ? join(ROOT, 'public/starter') : named
  const bundle = openBundle(await openModel(await readPath(path), named === 'starter' ? 'starter' : basename(resolve(path))))
  for (const note of bundle.files.notes) out.note(note)
  return bundle
}

/** The model's tokenizer. Throws ModelError where it has none. */
export function requireTokenizer(bundle: ModelBundle, what: string, instead: string): Tokenizer {
  const files = bundle.files.tokenizer
  if (!files)
    throw new ModelError('the model came without a tokenizer', {
      where: bundle.files.name,
      why: `${what} cannot be turned into tokens`,
      fix: instead,
    })
  return loadTokenizer(files)
}

/** An adapter read and found to fit; notes (another base model's name) are said. `set`: options its config cannot hold. */
export async function loadAdapter(
  bundle: ModelBundle,
  path: string,
  set: ReadonlyMap<string, string>,
  out: Output,
): Promise<LoadedAdapter> {
  const files = await readAdapter(await readPath(path))
  const { method, options } = methodOf(files.config, METHODS.values())
  const extra = parsePairs(method.options, set, `method ${method.id}`)
  const { target_modules: places, ...rest } = extra
  for (const [name, value] of Object.entries(rest))
    if (contradicts(method, options, name, value, bundle)) throw contradiction(name, value, options[name])
  const loaded = await openAdapter(bundle, files, rest)
  if (places !== undefined && method.slot === 'linear') {
    // The tensors say where it sits: any way of naming those places will do.
    const named = method.targets(parseOptions(method.options, { ...options, target_modules: places }), bundle.linears)
    if ([...named].sort().join() !== [...loaded.targets].sort().join())
      throw contradiction('target_modules', places, suffixes(loaded.targets))
  }
  for (const note of loaded.notes) out.note(note)
  return loaded
}

const contradiction = (name: string, value: unknown, own: unknown): OptionError =>
  new OptionError(`got ${JSON.stringify(value)}, and the adapter has ${JSON.stringify(own)}`, {
    where: `--set ${name}`,
    fix: 'Leave it out: beside --adapter only what adapter_config.json cannot hold is set',
  })

/** The adapter's config can hold this option, and holds another value. */
function contradicts(
  method: AnyLinearMethod | AnyInputMethod,
  options: Json,
  name: string,
  value: unknown,
  { config }: ModelBundle,
): boolean {
  const facts = {
    targets: ['x'],
    paths: ['x'],
    baseModel: '',
    embeddingSize: embeddingSize(config),
    layers: config.layers,
    heads: config.heads,
    fanInFanOut: false,
  }
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
  if (same(options[name], value)) return false
  const wanted = parseOptions(method.options, { ...options, [name]: value })
  return same(method.fromConfig(method.toConfig(wanted, facts))[name], value)
}

/** The data set of a file, rows in file order. What cannot be used is said and left out. Throws FileError or DataError naming the file. */
export async function loadRows(path: string, bundle: ModelBundle, seq: number, out: Output): Promise<Dataset> {
  const source = await fromPath(path)
  const { detection } = await inspectFile(source)
  const needsTokenizer = detection?.format !== 'tokens'
  const tokenizer = needsTokenizer && bundle.files.tokenizer ? loadTokenizer(bundle.files.tokenizer) : null
  const set = await buildDataset([source], tokenizer, { ...DEFAULT_DATA_OPTIONS, seq, vocabSize: bundle.config.vocabSize })
  const { setAside, bad, empty } = set.stats
  const first = setAside[0]
  if (first) out.note(`${bad + empty} of ${set.stats.rows} rows are not used. The first: ${first.file}, line ${first.line}: ${first.why}`)
  for (const check of set.checks) if (!check.ok) out.note(check.text)
  return set
}

/** Throws FileError where `path` is there and no folder. */
export async function checkFolder(path: string): Promise<void> {
  const info = await stat(path).catch(() => null)
  if (info && !info.isDirectory())
    throw new FileError('a file is in the way', {
      where: path,
      why: 'the result is a folder of files',
      fix: 'Name another folder for --out',
    })
}
