/** @file A stored matrix seen as its transpose, without it being in memory as a whole. */
import { checkRange } from './sources.ts'
import type { ByteSource, StoredTensor } from './source.ts'

/** Bytes of stored rows read at once. */
const BAND = 4 << 20
const ELEMENTS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array } as const
type ElementBytes = keyof typeof ELEMENTS

/** The transpose [C, R] of a stored matrix [R, C] whose elements are whole bytes (no block types). Each read of it goes through all stored rows, a band of
 * them at a time: ask for many rows at once. */
export function transposed(t: StoredTensor): StoredTensor {
  const [R, C] = t.shape
  const e = t.bytes / (R * C)
  if (t.shape.length !== 2 || !(e in ELEMENTS)) throw new Error(`${t.name}: ${t.type} [${t.shape.join(', ')}] has no transpose here`)
  const rowBytes = R * e
  const source: ByteSource = {
    name: t.source.name,
    size: t.bytes,
    read: async (offset, length) => {
      checkRange(t.source.name, t.bytes, offset, length)
      const first = Math.floor(offset / rowBytes)
      const last = Math.ceil((offset + length) / rowBytes)
      const rows = await readRows(t, e as ElementBytes, first, last)
      const from = offset - first * rowBytes
      return from === 0 && length === rows.length ? rows : rows.slice(from, from + length)
    },
  }
  return { ...t, shape: [C, R], source, offset: 0 }
}

/** Columns [first, last) of the stored matrix, each as a row. */
async function readRows(t: StoredTensor, e: ElementBytes, first: number, last: number): Promise<Uint8Array<ArrayBuffer>> {
  const [R, C] = t.shape
  const Elements = ELEMENTS[e]
  const out = new Elements((last - first) * R)
  const step = Math.max(1, Math.floor(BAND / (C * e)))
  for (let r = 0; r < R; r += step) {
    const rows = Math.min(step, R - r)
    const bytes = await t.source.read(t.offset + r * C * e, rows * C * e)
    const aligned = bytes.byteOffset % e === 0 ? bytes : bytes.slice()
    const band = new Elements(aligned.buffer, aligned.byteOffset, rows * C)
    for (let k = 0; k < rows; k++) for (let c = first; c < last; c++) out[(c - first) * R + r + k] = band[k * C + c]
  }
  return new Uint8Array(out.buffer)
}
