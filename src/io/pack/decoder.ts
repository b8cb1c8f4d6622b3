/** @file Formats that are made on load, back as the values that the GPU decodes: for what must start from the weights as they are kept. */
import { f16Table } from '../float16.ts'
import { decodeNf4 } from './nf4.ts'
import { decodeQ8 } from './q8.ts'

/** Formats that a stored type of another kind is turned into on load, with a loss. */
export type MadeFormat = 'f16' | 'q8_0' | 'nf4'

/** Weights [from, from + count) of a whole tensor. */
export function decodeWeights(
  format: MadeFormat,
  data: Uint32Array,
  scales: Uint32Array,
  from: number,
  count: number,
): Float32Array<ArrayBuffer> {
  switch (format) {
    case 'nf4':
      return decodeNf4(data, scales, from, count)
    case 'q8_0':
      return decodeQ8(data, scales, from, count)
    case 'f16': {
      const table = f16Table()
      const halves = new Uint16Array(data.buffer, data.byteOffset)
      return Float32Array.from({ length: count }, (_, i) => table[halves[from + i]])
    }
  }
}
