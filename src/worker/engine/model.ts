/** @file Opening a model from wherever it comes: what it is, known before any of its weights are read. */
import { loadTokenizer } from '../../data/tokenizer.ts'
import type { Tokenizer } from '../../data/types.ts'
import { FileError } from '../../errors.ts'
import type { BlobStore } from '../../io/blob_store.ts'
import { baseName } from '../../io/file_set.ts'
import { fetchModel } from '../../io/hub.ts'
import { parseHubId } from '../../io/hub_files.ts'
import { openModel } from '../../io/model_files.ts'
import type { ByteSource, FileSet } from '../../io/source.ts'
import { fromBlob, fromBytes } from '../../io/sources.ts'
import { expandZips } from '../../io/zip.ts'
import { suffixes } from '../../peft/targets.ts'
import { conversionNotes } from '../../train/base_formats.ts'
import { type ModelBundle, openBundle, paramShape } from '../../train/bundle.ts'
import { fingerprint } from '../../train/fingerprint.ts'
import { BASES } from '../../train/run_config.ts'
import { baseBytes } from '../../train/tunable.ts'
import type { ModelInfo, ModelSpec } from '../protocol.ts'

export interface LoadedModel {
  readonly bundle: ModelBundle
  readonly tokenizer: Tokenizer | null
  readonly info: ModelInfo
  /** The hub's repository whose download its weights are read from; null: they lie elsewhere. */
  readonly repo: string | null
}
export interface ModelSources {
  readonly store: BlobStore
  readonly fetch: typeof fetch
  /** Folder of the bundled model, ending with a slash. */
  readonly starterUrl: string
}
export type Progress = (label: string, done: number, total: number, unit: 'bytes' | 'tensors' | 'steps') => void

const STARTER_FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors']
const STARTER_NAME = 'starter'

/** Throws FileError, ModelError, or the signal's reason. */
export async function loadModel(
  spec: ModelSpec,
  from: ModelSources,
  maxBindingSize: number,
  onProgress: Progress,
  signal: AbortSignal,
): Promise<LoadedModel> {
  const { files, name, repo = null } = await filesOf(spec, from, onProgress, signal)
  signal.throwIfAborted()
  const bundle = openBundle(await openModel(files, name))
  signal.throwIfAborted()
  const tokenizer = bundle.files.tokenizer && loadTokenizer(bundle.files.tokenizer)
  const info = await describe(bundle, tokenizer, maxBindingSize)
  signal.throwIfAborted()
  return { bundle, tokenizer, info, repo }
}

async function filesOf(
  spec: ModelSpec,
  from: ModelSources,
  onProgress: Progress,
  signal: AbortSignal,
): Promise<{ files: FileSet; name?: string; repo?: string }> {
  switch (spec.kind) {
    case 'starter':
      return { files: await fetchStarter(from, onProgress, signal), name: STARTER_NAME }
    case 'files':
      return { files: await expandZips(fileSet(spec.files)) }
    case 'hub': {
      const { repo, revision, pick } = parseHubId(spec.repo, spec.revision === '' ? 'main' : spec.revision)
      const model = await fetchModel(`${repo}@${revision}${pick === null ? '' : `:${pick}`}`, {
        store: from.store,
        fetch: from.fetch,
        token: spec.token,
        signal,
        onProgress: ({ file, done, total }) => onProgress(file, done, total, 'bytes'),
      })
      return { files: model.files, name: repo, repo }
    }
    default:
      return spec satisfies never
  }
}

/** Files a person gave, by the path in the folder they chose. Throws FileError where two have one name. */
export function fileSet(files: readonly File[]): FileSet {
  const out = new Map<string, ByteSource>()
  for (const f of files) {
    const path = f.webkitRelativePath || f.name
    if (out.has(path))
      throw new FileError(`${baseName(path)} is there twice`, { why: 'It is not clear which one is meant', fix: 'Choose one folder' })
    out.set(path, fromBlob(f, path))
  }
  return out
}

async function fetchStarter({ fetch, starterUrl }: ModelSources, onProgress: Progress, signal: AbortSignal): Promise<FileSet> {
  const files = new Map<string, ByteSource>()
  for (const [i, name] of STARTER_FILES.entries()) {
    onProgress(name, i, STARTER_FILES.length, 'steps')
    const failed = (why: string): FileError =>
      new FileError('The starter model could not be read', {
        where: name,
        why,
        fix: 'Check that the studio is still being served and reload the page, or choose a model of your own',
      })
    let bytes: Uint8Array
    try {
      const response = await fetch(new URL(name, starterUrl), { signal })
      if (!response.ok) throw failed(`The server answered ${response.status}`)
      bytes = new Uint8Array(await response.arrayBuffer())
    } catch (e) {
      signal.throwIfAborted()
      throw e instanceof FileError ? e : failed(e instanceof Error ? e.message : String(e))
    }
    files.set(name, fromBytes(name, bytes))
  }
  return files
}

async function describe(bundle: ModelBundle, tokenizer: Tokenizer | null, maxBindingSize: number): Promise<ModelInfo> {
  const { config, files, family, params } = bundle
  const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)
  return {
    name: files.name,
    family: family.id,
    architecture: config.architecture,
    parameters: params.reduce((n, p) => n + size(paramShape(p)) + (p.kind === 'linear' && p.bias ? p.rows : 0), 0),
    fileBytes: files.fileBytes,
    storage: files.storage,
    layers: config.layers,
    hiddenSize: config.hiddenSize,
    heads: config.heads,
    kvHeads: config.kvHeads,
    vocabSize: config.vocabSize,
    context: config.context,
    chatTemplate: tokenizer?.chatTemplate ?? null,
    tokenizer: files.tokenizer,
    notes: [...files.notes, ...conversionNotes(bundle, 'keep')],
    linears: suffixes(bundle.linears),
    bases: BASES.map((base) => ({ base, bytes: baseBytes(bundle, base, maxBindingSize) })),
    fingerprint: await fingerprint(files),
  }
}
