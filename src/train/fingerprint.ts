/** @file Identity of a model's weights, for manifests and stored runs: quick also for large files, so it samples their bytes. */
import type { ModelFiles } from '../io/model_files.ts'

/** Bytes sampled in the middle of each tensor. */
const SAMPLE = 256

/** sha-256, hex, over each tensor's name, type, shape and bytes from its middle, by name. Throws FileError where a file ends early. */
export async function fingerprint(files: Pick<ModelFiles, 'tensors'>): Promise<string> {
  const parts: Uint8Array<ArrayBuffer>[] = []
  for (const [name, t] of [...files.tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    parts.push(new TextEncoder().encode(`${name} ${t.type} ${t.shape.join('x')}\n`))
    const length = Math.min(SAMPLE, t.bytes)
    parts.push(await t.source.read(t.offset + Math.floor((t.bytes - length) / 2), length))
  }
  const hash = await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer())
  return Array.from(new Uint8Array(hash), (b) => b.toString(16).padStart(2, '0')).join('')
}
