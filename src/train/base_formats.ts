/** @file Which GPU format each matrix of a model gets, from how it is stored and how the base is wanted. */
import { OptionError } from '../errors.ts'
import { isPacked, weightBytes, type WeightFormat } from '../kernels/weight_formats.ts'
import { losesValues, ownFormat } from '../io/pack/encoder.ts'
import type { StorageType } from '../io/source.ts'
import type { Param } from '../models/family.ts'
import type { AnyMethod } from '../peft/method.ts'
import { type ModelBundle, paramShape, stored, tensorName } from './bundle.ts'
import type { Base } from './run_config.ts'

type Matrix = Exclude<Param, { kind: 'vector' }>

/** What keeps a stored matrix's values: its own bits; 8-bit blocks where no kernel reads its type. */
const kept = (type: StorageType): WeightFormat => ownFormat(type) ?? (type === 'F64' ? 'f32' : 'q8_0')
/** Bits of a weight, scales included. */
const width = (f: WeightFormat): number => (weightBytes(f, 4096, 4096).data + weightBytes(f, 4096, 4096).scales) / 2 ** 21

/** Blocks need whole blocks of 32 in a row: other matrices stay 16-bit floats. */
function fitting(wanted: WeightFormat, own: WeightFormat, cols: number): WeightFormat {
  if (!isPacked(wanted) || cols % 32 === 0) return wanted
  return isPacked(own) ? 'f32' : own === 'f32' ? 'f16' : own
}
/** A block format, unless what is there is no wider. */
const narrowed = (wanted: 'nf4' | 'q8_0', own: WeightFormat): WeightFormat =>
  isPacked(own) && width(own) <= (wanted === 'nf4' ? 4.5 : 8.5) ? own : wanted

function linearFormat(base: Base, own: WeightFormat): WeightFormat {
  switch (base) {
    case 'keep':
      return own
    case 'nf4':
      return narrowed('nf4', own)
    case 'q8':
      return narrowed('q8_0', own)
    default:
      return base
  }
}

/** Format of every matrix. With a base of 4 or 8 bits, token embeddings and head are 8-bit blocks, or narrower where they are stored so. */
export function matrixFormats(b: ModelBundle, base: Base): (p: Matrix) => WeightFormat {
  const own = (p: Matrix): WeightFormat => kept(stored(b, tensorName(p), paramShape(p)).type)
  const small = base === 'nf4' || base === 'q8' || (base === 'keep' && b.params.some((p) => p.kind === 'linear' && isPacked(own(p))))
  return (p) => {
    const is = own(p)
    if (p.kind === 'linear') return fitting(linearFormat(base, is), is, p.cols)
    if (p.use === 'position') return base === 'keep' ? is : base === 'f32' ? 'f32' : is === 'bf16' ? is : 'f16'
    return fitting(small ? narrowed('q8_0', is) : linearFormat(base, is), is, p.cols)
  }
}

/** Whether every matrix has the file's values on the GPU: none was quantised, or quantised again, on load. */
export function holdsFile(b: ModelBundle, base: Base): boolean {
  const format = matrixFormats(b, base)
  return b.params.every((p) => p.kind === 'vector' || !losesValues(stored(b, tensorName(p), paramShape(p)).type, format(p)))
}

/** Conversions on load that lose something, to be shown. */
export function conversionNotes(b: ModelBundle, base: Base): string[] {
  const types = new Set<StorageType>()
  const format = matrixFormats(b, base)
  for (const p of b.params) {
    if (p.kind === 'vector') continue
    const { type } = stored(b, tensorName(p), paramShape(p))
    if ((type === 'Q2_K' || type === 'Q3_K') && format(p) === 'q8_0') types.add(type)
  }
  return types.size > 0
    ? [`${[...types].join(', ')} weights are kept as 8-bit blocks, which hold their values within 0.4 % of a block's largest.`]
    : []
}

/** Throws OptionError where a method trains the weights themselves and the base was asked for in another form than f32. */
export function requireTrainable(method: AnyMethod | null, base: Base): void {
  if (method?.slot !== 'weights' || base === 'keep' || base === 'f32') return
  throw new OptionError(`got "${base}", and ${method.id} trains the weights themselves`, {
    where: 'base',
    why: 'Trained weights are kept as f32, whatever the file holds: smaller ones could not take in small updates',
    fix: 'Use keep or f32, or a method that trains an adapter beside a frozen base, such as lora',
  })
}
