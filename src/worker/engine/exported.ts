/** @file An adapter as its export would be read: for what must be computed beside the file's own weights. */
import { readAdapter } from '../../io/adapter_files.ts'
import { fromBytes } from '../../io/sources.ts'
import type { Adapter, State } from '../../train/adapter.ts'
import type { ModelBundle } from '../../train/bundle.ts'
import { adapterFiles } from '../../train/export.ts'
import { type LoadedAdapter, openAdapter } from '../../train/tunable.ts'

const bytesOf = (data: Uint8Array<ArrayBuffer> | string): Uint8Array => (typeof data === 'string' ? new TextEncoder().encode(data) : data)

/** Throws AdapterError where it does not fit. */
export async function asExported(bundle: ModelBundle, adapter: Adapter, state: State, seed: number): Promise<LoadedAdapter> {
  const files = await adapterFiles(adapter, state, { baseModel: '', seed, manifest: null })
  const set = new Map(files.flatMap((f) => ('data' in f ? [[f.name, fromBytes(f.name, bytesOf(f.data))] as const] : [])))
  return openAdapter(bundle, await readAdapter(set))
}
