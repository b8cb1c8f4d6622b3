/** @file Which matmul kernel, with which tile, for a device and a shape. The figures behind the choices: docs/adr/0002-matmul-families.md. */
import type { TargetTraits } from '../gpu/kernel.ts'
import { matmulAnyKernel } from './matmul_any.ts'
import { matmulSgkKernel, sgkColumns } from './matmul_sgk.ts'
import { matmulTileKernel } from './matmul_tile.ts'
import { matmulVecKernel, VEC_ROWS, vecShape } from './matmul_vec.ts'

export type Layout = 'nt' | 'nn' | 'tn'
export interface MatmulShape {
  readonly layout: Layout
  /** Planned (largest) sizes. */
  readonly M: number
  readonly N: number
  readonly K: number
  /** f32 b, no low-rank term. */
  readonly plain: boolean
  /** Everything that must be a multiple of 4 for vec4 loads of b and lb. */
  readonly aligned: boolean
  /** Rows of a begin at multiples of 4. */
  readonly vectors: boolean
  /** Columns at which segments of the low-rank term begin. */
  readonly segments: readonly number[]
}
export type MatmulChoice =
  | {
      readonly kernel: typeof matmulSgkKernel
      readonly constants: { TM: number; V: number; SINGLE: number; SPLIT: number; SUBGROUP: number }
      readonly narrow: boolean
    }
  | { readonly kernel: typeof matmulVecKernel; readonly constants: ReturnType<typeof vecShape>; readonly vector: true }
  | { readonly kernel: typeof matmulTileKernel; readonly constants: Readonly<Record<string, never>> }
  | { readonly kernel: typeof matmulAnyKernel; readonly constants: Readonly<Record<string, never>> }

/** Rows of a tile: the largest that the shape fills. */
const rows = (M: number, most: number): number => [1, 2, 4, 8, 16, 32].find((t) => t >= M || t >= most)!

export function chooseMatmul(target: TargetTraits, s: MatmulShape): MatmulChoice {
  if (!s.aligned) return { kernel: matmulAnyKernel, constants: {} }
  const SG = target.subgroup
  if (target.software && SG > 0 && SG <= 16) {
    const nt = s.layout === 'nt'
    // Few columns (a low rank): 4 a lane would leave most lanes idle.
    const narrow = !nt && s.N <= 2 * SG && s.plain
    const single = nt || narrow
    const TM = rows(s.M, SG < 8 ? 8 : 16)
    const widest = narrow ? 1 : nt ? (SG < 8 ? 8 : 2) : SG < 8 ? 2 : 1
    const fits = (v: number) => v === 1 || s.N >= sgkColumns(single, v, SG)
    const V = [8, 4, 2, 1].find((v) => v <= widest && fits(v))!
    const startsAt = (columns: number) => s.segments.every((c) => c % columns === 0)
    const SPLIT = startsAt(sgkColumns(single, V, SG)) ? 0 : 1
    if (startsAt(SG)) return { kernel: matmulSgkKernel, constants: { TM, V, SINGLE: single ? 1 : 0, SPLIT, SUBGROUP: SG }, narrow }
    return { kernel: matmulTileKernel, constants: {} }
  }
  if (s.layout === 'nt' && s.M <= VEC_ROWS && s.vectors)
    return { kernel: matmulVecKernel, constants: vecShape(s.M, s.N, s.K), vector: true }
  return { kernel: matmulTileKernel, constants: {} }
}
