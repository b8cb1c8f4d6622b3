/** @file Sizes of kernel calls that follow live row counts, and the checks that ops share. */
import { derived, type Dim, isLive, type Shape, ShapeError, type TargetTraits, type Tensor, times } from '../../tensor/graph.ts'

/** ceil(d / k), live if d is. */
export const ceilDim = (d: Dim, k: number): Dim => (isLive(d) ? derived(() => Math.ceil(d.value / k)) : Math.ceil(d / k))
/** The value of a size now. */
export const now = (d: Dim): number => (isLive(d) ? d.value : d)

/** vec4s in the live rows of x. Buffers are padded to whole vec4s. */
export const liveVec4s = (x: Tensor): Dim =>
  ceilDim(
    times(
      x.rows,
      x.shape.slice(1).reduce((a, b) => a * b, 1),
    ),
    4,
  )

/** Kernels that read rows as vec4s need a last axis divisible by 4. */
export function requireVec4(op: string, ...shapes: Shape[]): void {
  for (const s of shapes) if (s.at(-1)! % 4) throw new ShapeError(op, 'a last axis that is a multiple of 4', s)
}

/** Lanes that work on one row of `width` vec4s: one subgroup where the GPU is software (no barrier then), else enough to fill a GPU. */
export const rowGroup = (target: TargetTraits, width: number): number =>
  target.software && target.subgroup > 0 ? target.subgroup : width >= 1024 ? 256 : 64
