/** @file The product of a matmul_tile's tiles by subgroup matrices: a subgroup multiplies fragments of both tiles at once, on units that GPUs have for nothing else.
 * Experimental in WebGPU (https://github.com/gpuweb/gpuweb/issues/4195; dawn/docs/dawn/features/subgroup_matrix.md).
 *
 * Where the units take f32 (Apple), the result is as exact as any f32 sum. Where they take f16 and add in f32 (NVIDIA, Intel, AMD), each number is the sum of two,
 * high + low / 2048, and a product is three: high · high + (high · low + low · high) / 2048, with two sums (Ootomo and Yokota, 2022, "Recovering single precision
 * accuracy from Tensor Cores while surpassing the FP32 theoretical peak performance", arXiv:2203.03341: the residual, scaled by 2^11). A number from 2^-14 to 65504 keeps
 * 21 bits; a smaller one 11, down to steps of 2^-35; a larger one becomes infinite, so that the loss is not finite and the run says so. */
import { type MatrixUnit, range } from '../gpu/kernel.ts'
import type { Tile } from './matmul_tile.ts'

/** As constants of the kernel. */
export interface FragmentSizes {
  readonly FM: number
  readonly FN: number
  readonly FK: number
  readonly LANES: number
  /** What a is multiplied by on its way into the tile, a power of two; the sums are divided by it. */
  readonly LIFT: number
}
/** Gradients are small: lifted by 2^10 they keep 21 bits from 2^-24 to 64, and 11 down to steps of 2^-45. */
const GRADIENT_LIFT = 1024
/** @param gradient a is one */
export const fragmentSizes = ({ type, M, N, K, lanes }: MatrixUnit, gradient: boolean): FragmentSizes => ({
  ...{ FM: M, FN: N, FK: K, LANES: lanes },
  LIFT: type === 'f16' && gradient ? GRADIENT_LIFT : 1,
})

/** Subgroups that work, SY by SX, and how many fragments of the tile each has, RM by RN: as square as can be, as then the fewest are loaded. */
interface Share {
  readonly SX: number
  readonly SY: number
  readonly RM: number
  readonly RN: number
}

/** A subgroup may be smaller than LANES: then there are more of them than work. Null: no share is whole. */
function shareOf({ BM, BN, FM, FN, LANES }: Tile & FragmentSizes, threads: number): Share | null {
  const subgroups = threads / LANES
  const shares = range(subgroups).flatMap((i): Share[] => {
    const [SY, SX] = [i + 1, subgroups / (i + 1)]
    const [RM, RN] = [BM / FM / SY, BN / FN / SX]
    return [SX, RM, RN].every(Number.isInteger) ? [{ SX, SY, RM, RN }] : []
  })
  return shares.sort((p, q) => p.RM + p.RN - q.RM - q.RN)[0] ?? null
}
export function workingSubgroups(c: Tile & FragmentSizes, threads: number): Share {
  const share = shareOf(c, threads)
  if (!share) throw new Error(`fragments of ${c.FM} x ${c.FN} do not fill a tile of ${c.BM} x ${c.BN}`)
  return share
}

/** Fragments that a subgroup can hold sums of without spilling, in f32 values an invocation. */
const MOST_SUMS = 128

/** Whether a tile can be computed by fragments of a unit. */
export function fragmentsFit(t: Tile, unit: MatrixUnit): boolean {
  const c = { ...t, ...fragmentSizes(unit, false) }
  const strip = (4 * t.BM) / t.TM
  const share = shareOf(c, (t.BM / t.TM) * (t.BN / t.TN))
  if (!share || t.BK % unit.K || strip % unit.M) return false
  const sums = (share.RM * share.RN * unit.M * unit.N * (unit.type === 'f16' ? 2 : 1)) / unit.lanes
  return sums <= MOST_SUMS
}

/** All of a kernel that the text depends on. TX by TY invocations; an invocation's rows lie in groups of four, a strip of the tile each. */
export interface Fragments extends Tile, FragmentSizes, Share {
  readonly type: MatrixUnit['type']
  readonly TX: number
  readonly TY: number
  readonly rows: readonly number[]
  readonly groups: readonly number[]
}
const result = ({ FM, FN }: Fragments): string => `subgroup_matrix_result<f32, ${FN}, ${FM}>`
/** Sums of high · high; and, for f16, of what is 2048 times as large. */
const sums = ({ type }: Fragments): readonly string[] => (type === 'f16' ? ['low', 'sum'] : ['sum'])
const each = ({ RM, RN }: Fragments, text: (i: number, j: number) => string): string[] =>
  range(RM).flatMap((i) => range(RN).map((j) => text(i, j)))
/** First row (column) in the tile of a subgroup's i-th (j-th) fragment. */
const fragmentRow = ({ RM, FM }: Fragments, i: number): string => `((sg / SX) * ${RM * FM}u + ${i * FM}u)`
const fragmentColumn = ({ RN, FN }: Fragments, j: number): string => `((sg % SX) * ${RN * FN}u + ${j * FN}u)`

/** Sums, before the loop over the inner dimension. */
export const declareText = (f: Fragments): string[] => [
  `let SX = ${f.SX}u; let working = sg < ${f.SX * f.SY}u;`,
  ...each(f, (i, j) =>
    sums(f)
      .map((s) => `var ${s}${i}_${j} = ${result(f)}();`)
      .join(' '),
  ),
]

/** tile_a [BK][BM], read by columns, times tile_b [BK][BN]. */
export function multiplyText(f: Fragments): string[] {
  const { type, BM, BN, BK, FM, FN, FK, RM, RN } = f
  const left = (from: string, i: number): string =>
    `subgroupMatrixLoad<subgroup_matrix_left<${type}, ${FK}, ${FM}>, col_major>(&tile_a, ${from} + k * ${BM}u + ${fragmentRow(f, i)}, ${BM}u)`
  const right = (from: string, j: number): string =>
    `subgroupMatrixLoad<subgroup_matrix_right<${type}, ${FN}, ${FK}>, row_major>(&tile_b, ${from} + k * ${BN}u + ${fragmentColumn(f, j)}, ${BN}u)`
  const add = (sum: string, a: string, b: string): string => `${sum} = subgroupMatrixMultiplyAccumulate(${a}, ${b}, ${sum});`
  return [
    `if (working) { for (var k = 0u; k < ${BK}u; k += ${FK}u) {`,
    ...range(RM).map((i) => `let a${i} = ${left('0u', i)};`),
    ...range(RN).map((j) => `let b${j} = ${right('0u', j)};`),
    ...each(f, (i, j) => add(`sum${i}_${j}`, `a${i}`, `b${j}`)),
    ...(type === 'f16'
      ? [
          ...range(RN).map((j) => `let c${j} = ${right(`${BN * BK}u`, j)};`),
          ...each(f, (i, j) => add(`low${i}_${j}`, `a${i}`, `c${j}`)),
          ...range(RM).map((i) => `let d${i} = ${left(`${BM * BK}u`, i)};`),
          ...each(f, (i, j) => add(`low${i}_${j}`, `d${i}`, `b${j}`)),
        ]
      : []),
    '} }',
  ]
}

/** From fragments to what invocations have of the tile (acc, as without subgroup matrices), strip by strip. */
export function collectText(f: Fragments): string[] {
  const { BN, TX, TY, rows, groups, LIFT } = f
  const height = 4 * TY
  return range(rows.length / 4).flatMap((n) =>
    sums(f).flatMap((s) => [
      'workgroupBarrier();',
      'if (working) {',
      ...each(
        f,
        (i, j) =>
          `{ let row = ${fragmentRow(f, i)}; if (row / ${height}u == ${n}u) { subgroupMatrixStore<row_major>(&strip, row % ${height}u * ${BN}u + ${fragmentColumn(f, j)}, ${s}${i}_${j}, ${BN}u); } }`,
      ),
      '}',
      'workgroupBarrier();',
      ...range(4).flatMap((e) =>
        groups.map((g) => {
          const at = `(ty * 4u + ${e}u) * ${BN}u + (${g * TX}u + tx) * 4u`
          const four = `vec4f(${range(4)
            .map((x) => `strip[${at} + ${x}u]`)
            .join(', ')})`
          const acc = `acc${4 * n + e}_${g}`
          return s === 'low' ? `${acc} = ${four} / ${2048 * LIFT}.0;` : `${acc} += ${four} / ${LIFT}.0;`
        }),
      ),
    ]),
  )
}
