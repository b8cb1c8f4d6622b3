/** @file Which matmul kernel, with which tile, for a device and a shape. The figures behind the choices: docs/adr/0002-matmul-families.md. */
import type { MatrixUnit, TargetTraits, TunedMatmul } from '../gpu/kernel.ts'
import { fragmentsFit, fragmentSizes, type FragmentSizes } from './fragments.ts'
import { matmulAnyKernel } from './matmul_any.ts'
import { matmulSgkKernel, sgkColumns } from './matmul_sgk.ts'
import { defaultTile, MATRIX_TILES, matmulTileKernel, REGISTER_TILES, splitOf, type Tile, TILES } from './matmul_tile.ts'
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
  /** b is quantised: its words hold 8 columns or inner steps. */
  readonly packed: boolean
  /** One row by weights of a format that packed products take, in whole eights of K. */
  readonly eights?: boolean
  /** Everything that must be a multiple of 4 for vec4 loads of b and lb. */
  readonly aligned: boolean
  /** Rows of a begin at multiples of 4. */
  readonly vectors: boolean
  /** a is a gradient. */
  readonly gradient?: boolean
  /** Columns at which segments of the low-rank term begin. */
  readonly segments: readonly number[]
}
export type MatmulChoice =
  | {
      readonly kernel: typeof matmulSgkKernel
      readonly constants: { TM: number; V: number; SINGLE: number; SPLIT: number; SUBGROUP: number }
      readonly narrow: boolean
    }
  | { readonly kernel: typeof matmulVecKernel; readonly constants: ReturnType<typeof vecShape>; readonly dot: boolean }
  | {
      readonly kernel: typeof matmulTileKernel
      readonly constants: Tile & { readonly SPLIT: number } & Partial<FragmentSizes>
      /** Which subgroup matrices it uses, or that it uses no workgroup memory. */
      readonly how: readonly ('matrix_f16' | 'matrix_f32' | 'direct')[]
    }
  | { readonly kernel: typeof matmulAnyKernel; readonly constants: Readonly<Record<string, never>> }

/** Rows of a tile: the largest that the shape fills. */
const rows = (M: number, most: number): number => [1, 2, 4, 8, 16, 32].find((t) => t >= M || t >= most)!

/** Multiplications of a product that takes a software adapter a millisecond: 8 rows are a fifth slower than 16 and compile in less than half the time. */
const SMALL = 2 ** 24

/** Products that one choice serves: what is read how, and whether there are many rows. */
export const matmulClass = ({ layout, packed, M }: Pick<MatmulShape, 'layout' | 'packed' | 'M'>): string =>
  `${layout} ${packed ? 'packed' : 'float'} ${M <= 256 ? 'some' : 'many'}`

/** As if tuning had found one choice for every class. */
export const tunedTo = (choice: TunedMatmul): Readonly<Record<string, TunedMatmul>> =>
  Object.fromEntries(
    (['nt', 'nn', 'tn'] as const).flatMap((layout) =>
      [true, false].flatMap((packed) => [1, Infinity].map((M) => [matmulClass({ layout, packed, M }), choice])),
    ),
  )

/** Register tiles of `most` rows and `widest` columns (groups of columns) a lane, as far as the shape fills them. */
function registerTile(SG: number, s: MatmulShape, most: number, widest: number): MatmulChoice | null {
  const nt = s.layout === 'nt'
  // Few columns (a low rank): 4 a lane would leave most lanes idle.
  const narrow = !nt && s.N <= 2 * SG && s.plain
  const single = nt || narrow
  const fits = (v: number) => v === 1 || s.N >= sgkColumns(single, v, SG)
  const V = [4, 2, 1].find((v) => v <= (narrow ? 1 : widest) && fits(v))!
  const startsAt = (columns: number) => s.segments.every((c) => c % columns === 0)
  if (!startsAt(SG)) return null
  const SPLIT = startsAt(sgkColumns(single, V, SG)) ? 0 : 1
  return { kernel: matmulSgkKernel, constants: { TM: rows(s.M, most), V, SINGLE: single ? 1 : 0, SPLIT, SUBGROUP: SG }, narrow }
}

function workgroupTile(
  s: MatmulShape,
  tuned: (Tile & { readonly family: 'tile' | 'matrix' | 'reg' }) | null,
  unit: MatrixUnit | null,
): MatmulChoice {
  if (s.segments.some((c) => c % 4 > 0)) return { kernel: matmulAnyKernel, constants: {} }
  const fits = tuned && s.M > tuned.BM / 2 && s.N > tuned.BN / 2 ? tuned : null
  const { BM, BN, BK, TM, TN } = fits ?? defaultTile(s.M, s.N)
  const t = { BM, BN, BK, TM, TN }
  const fragments = fits?.family === 'matrix' ? unit : null
  // Gradients of weights: a small output over all rows of the batch.
  const SPLIT = s.layout === 'tn' && s.plain ? splitOf(t, s.M, s.N, s.K) : 1
  return {
    kernel: matmulTileKernel,
    constants: { ...t, SPLIT, ...(fragments && fragmentSizes(fragments, s.gradient === true)) },
    how: fragments ? [`matrix_${fragments.type}`] : fits?.family === 'reg' ? ['direct'] : [],
  }
}

/** What a device is tuned among for a class of products: at most 12. */
export function matmulCandidates(target: TargetTraits): readonly TunedMatmul[] {
  const { subgroup, matrix } = target
  const registers: TunedMatmul[] =
    subgroup >= 4 && subgroup <= 32
      ? [
          { family: 'sgk', TM: 8, V: 1 },
          { family: 'sgk', TM: 16, V: 2 },
        ]
      : []
  const fragments = matrix ? MATRIX_TILES.filter((t) => fragmentsFit(t, matrix)).map((t): TunedMatmul => ({ family: 'matrix', ...t })) : []
  const direct = REGISTER_TILES.map((t): TunedMatmul => ({ family: 'reg', ...t }))
  const others = [...registers, ...fragments, ...direct]
  return [...TILES.slice(0, 12 - others.length).map((t): TunedMatmul => ({ family: 'tile', ...t })), ...others]
}

export function chooseMatmul(target: TargetTraits, s: MatmulShape): MatmulChoice {
  if (!s.aligned) return { kernel: matmulAnyKernel, constants: {} }
  const { subgroup: SG, software } = target
  // Before what tuning found for some rows: these few are limited by memory.
  const dot = target.dot === true && s.eights === true
  if ((dot || !software) && s.layout === 'nt' && s.M <= VEC_ROWS && s.vectors)
    return { kernel: matmulVecKernel, constants: vecShape(s.M, s.N, s.K, dot), dot }
  const tuned = target.matmuls?.[matmulClass(s)]
  // Without vectors a chunk is as long as the subgroup, and blocks are as short as 16.
  if (tuned?.family === 'sgk' && SG > 0 && (s.vectors || SG <= 16)) {
    const choice = registerTile(SG, s, tuned.TM, tuned.V)
    if (choice) return choice
  }
  if (software && !tuned && SG > 0 && SG <= 16) {
    // Beyond these a chunk's text leaves the instruction cache, and what more rows bring their longer compilation takes: docs/adr/0002-matmul-families.md.
    const four = SG <= 4
    const nt = s.layout === 'nt'
    const widest = nt ? 4 : s.packed ? 2 : 1
    const most = four && (nt || !s.packed) ? 32 : 16
    const choice = registerTile(SG, s, s.M * s.N * s.K < SMALL ? 8 : most, widest)
    if (choice) return choice
  }
  return workgroupTile(s, tuned && tuned.family !== 'sgk' ? tuned : null, target.matrix ?? null)
}
