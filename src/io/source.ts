/** @file Random access to bytes, wherever they lie: a dropped File, an OPFS handle, a Node file, memory. */

export interface ByteSource {
  /** File name, for messages. */
  readonly name: string
  /** Length in bytes. */
  readonly size: number
  /** Bytes [offset, offset + length). Rejects when the range is outside the source. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>
}

/** How a stored tensor's elements are encoded. Safetensors names, then GGML block types. */
export type StorageType =
  | 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL'
  | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q2_K' | 'Q3_K' | 'Q4_K' | 'Q5_K' | 'Q6_K' // prettier-ignore

/** A tensor in a file, not read yet. */
export interface StoredTensor {
  readonly name: string
  readonly type: StorageType
  /** Row-major, outermost first (PyTorch order; GGUF's `ne` reversed). */
  readonly shape: readonly number[]
  readonly source: ByteSource
  readonly offset: number
  readonly bytes: number
}

/** A set of files that may be a model, an adapter or data: file name → bytes. */
export type FileSet = ReadonlyMap<string, ByteSource>
