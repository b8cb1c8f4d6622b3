/** @file Tiny models whose matrices are stored in any type. */
import type { StorageType, StoredTensor } from '../src/io/source.ts'
import { fromBytes } from '../src/io/sources.ts'
import { type ModelBundle, openBundle, paramShape, tensorName } from '../src/train/bundle.ts'
import { tinyBundle } from './tiny.ts'
import { storedWeights } from './weights.ts'

/** Rows of whole blocks of 256. */
export const WIDE = {
  hidden_size: 256,
  intermediate_size: 512,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 1,
  max_position_embeddings: 64,
}

/** A model whose matrices are stored as `linear` and `table`; values of about 0.05. */
export async function storedBundle(linear: StorageType, table: StorageType): Promise<ModelBundle> {
  const bundle = await tinyBundle(WIDE, { std: 0.05 })
  return replaced(bundle, (name, shape, isTable) => {
    const type = isTable ? table : linear
    return { type, bytes: storedWeights(type, shape[0] * shape[1], name.length, 0.1) }
  })
}
export async function replaced(
  bundle: ModelBundle,
  make: (name: string, shape: readonly number[], isTable: boolean) => { type: StorageType; bytes: Uint8Array } | null,
): Promise<ModelBundle> {
  const tensors = new Map<string, StoredTensor>(bundle.files.tensors)
  for (const p of bundle.params) {
    if (p.kind === 'vector') continue
    const made = make(tensorName(p), paramShape(p), p.kind === 'table')
    if (!made) continue
    const t = tensors.get(tensorName(p))!
    tensors.set(t.name, { ...t, type: made.type, source: fromBytes(t.name, made.bytes), offset: 0, bytes: made.bytes.length })
  }
  return openBundle({ ...bundle.files, tensors })
}
