/** @file How an op is run against a fixture: planned for exactly its rows or for more with the rest live and full of NaN, and with the kernels
 * that a software GPU gets or those that a real one gets. */
import { type Dim, ScalarInput, type Shape, type TargetTraits } from '../src/tensor/graph.ts'
import { target } from './gpu.ts'

type F32 = Float32Array<ArrayBuffer>
export interface Mode {
  readonly name: string
  readonly traits: TargetTraits
  /** Rows planned beyond those of the fixture. */
  readonly spare: number
}
const hardware: TargetTraits = { ...target, software: false }
export const MODES: readonly Mode[] = [
  { name: 'as planned', traits: target, spare: 0 },
  { name: 'fewer rows than planned', traits: target, spare: 3 },
  { name: 'kernels for hardware', traits: hardware, spare: 0 },
  { name: 'kernels for hardware, fewer rows', traits: hardware, spare: 70 },
]

export const f32 = (values: readonly number[]): F32 => Float32Array.from(values)
export const u32 = (values: readonly number[]): Uint32Array<ArrayBuffer> => Uint32Array.from(values)

/** A [M, …] fixture as a leaf of the mode: shape, values (NaN in the rows that are not live) and live row count. */
export function rowsOf(mode: Mode, [M = 1, ...rest]: Shape, values: readonly number[]): readonly [Shape, F32, { rows: Dim }] {
  const per = rest.reduce((a, b) => a * b, 1)
  const data = new Float32Array((M + mode.spare) * per).fill(NaN)
  data.set(values)
  return [[M + mode.spare, ...rest], data, { rows: mode.spare ? new ScalarInput(M) : M }]
}
/** The same for ids; those that are not live are out of every range. */
export function idsOf(mode: Mode, values: readonly number[]): readonly [Shape, Uint32Array<ArrayBuffer>, { rows: Dim }] {
  const data = new Uint32Array(values.length + mode.spare).fill(0xffffffff)
  data.set(values)
  return [[data.length], data, { rows: mode.spare ? new ScalarInput(values.length) : values.length }]
}
/** The live part of a result. */
export const live = (result: F32, expected: ArrayLike<number>): F32 => result.subarray(0, expected.length)
