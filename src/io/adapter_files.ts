/** @file Opens an adapter as PEFT saves it: a folder, or a zip of one. Knows file names, not methods: `peft/` judges config and tensors. */
import { FileError } from '../errors.ts'
import { baseName, besideFile } from './file_set.ts'
import { readJsonObject, type JsonObject } from './json.ts'
import { readSafetensors } from './safetensors.ts'
import type { FileSet, StoredTensor } from './source.ts'
import { expandZips } from './zip.ts'

export interface AdapterFiles {
  /** Parsed adapter_config.json. */
  readonly config: JsonObject
  /** Tensors by their names in the file. */
  readonly tensors: ReadonlyMap<string, StoredTensor>
  /** What else lies beside them, by file name: README.md, a run manifest … */
  readonly files: FileSet
}

/** Says what is wrong with files among which there is no adapter_config.json. */
function noConfig(files: FileSet): FileError {
  const names = [...files.keys()].map(baseName)
  const where = names.slice(0, 5).join(', ') + (names.length > 5 ? ' …' : '')
  if (names.some((n) => n.endsWith('.gguf'))) {
    return new FileError('A GGUF file is no adapter that can be loaded here', {
      where,
      why: 'Adapters are read in the layout of PEFT',
      fix: 'Choose the folder with adapter_config.json and adapter_model.safetensors',
    })
  }
  if (names.includes('config.json'))
    return new FileError('These files are a model, not an adapter', { where, fix: 'Load them as the model' })
  return new FileError('adapter_config.json is missing', {
    ...(where && { where }),
    why: 'It says which method the adapter is and how it is scaled',
    fix: 'Choose the whole folder or zip that the adapter came in',
  })
}

/**
 * Opens an adapter.
 * @param files a PEFT folder's files, or one zip file of them.
 * @throws FileError where a file is missing or damaged, or the weights are a pickle (adapter_model.bin), which is not read because it can run code.
 */
export async function readAdapter(files: FileSet): Promise<AdapterFiles> {
  const unpacked = await expandZips(files)
  const folder = besideFile(unpacked, 'adapter_config.json')
  const config = folder?.get('adapter_config.json')
  if (!folder || !config) throw noConfig(unpacked)
  const parsed = await readJsonObject(config, 2 ** 24)
  const weights = folder.get('adapter_model.safetensors')
  if (weights) {
    const { tensors } = await readSafetensors(weights)
    if (tensors.size === 0)
      throw new FileError('It holds no tensors', {
        where: weights.name,
        why: 'The adapter would change nothing',
        fix: 'Save the adapter again',
      })
    return { config: parsed, tensors, files: folder }
  }
  if (folder.has('adapter_model.bin')) {
    throw new FileError('adapter_model.bin is a pickle file, which is not read', {
      where: 'adapter_model.bin',
      why: 'Reading it could run code that somebody hid in it',
      fix: 'Convert it: load it with PeftModel.from_pretrained and save it with save_pretrained(…, safe_serialization=True)',
    })
  }
  throw new FileError('adapter_model.safetensors is missing', {
    where: [...folder.keys()].join(', '),
    why: 'It holds the adapter’s weights',
    fix: 'Add it',
  })
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([k, v]) => [k, sortKeys(v)]))
}

/** Text of adapter_config.json as PEFT writes it: two spaces, keys sorted, everything beyond ASCII escaped (Python's json.dumps(indent=2, sort_keys=True)). */
export function adapterConfigJson(config: Readonly<Record<string, unknown>>): string {
  const escape = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`
  return JSON.stringify(sortKeys(config), null, 2).replaceAll(/[\u007f-\uffff]/g, escape)
}
