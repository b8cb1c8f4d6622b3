/** @file The operand of matmul_sgk that lanes load once for their subgroup and pass to one another: rows of a (or of the low-rank term's h). Four elements a load
 * where rows begin at multiples of 4: on software adapters a lane pays for its index, its mask and its bounds once a load. */

import { range } from '../gpu/kernel.ts'

const powerOf2 = (n: number): number => 2 ** Math.floor(Math.log2(n))

export interface Broadcast {
  /** Inner steps held at once: a multiple of 4. */
  readonly chunk: number
  /** Inner sizes are always multiples of the chunk. */
  readonly exact: boolean
  /** WGSL before the loop over k0. */
  readonly before: readonly string[]
  /** WGSL that loads the chunk at k0; elements beyond K are 0. */
  readonly load: readonly string[]
  /** WGSL of step k (of the chunk) of the lane's i-th row. */
  readonly element: (i: number, k: number) => string
  /** WGSL of which of the tile's rows is a lane's i-th: i, or the rows of four lanes in an order of each lane's own. */
  readonly row: (i: number) => string
}

/** What the lane beside, below or across holds, among four: lane ^ x. SwiftShader, whose subgroups are these four, needs one instruction for it and five for a broadcast. */
const SWAPS = ['', 'quadSwapX', 'quadSwapY', 'quadSwapDiagonal']

/** A matrix in WGSL: step k of a row lies at start(row) + step(k); K inner steps. `name` begins its variables. */
interface Operand {
  readonly name: string
  readonly buffer: string
  readonly start: (row: string) => string
  readonly step: (k: string) => string
  readonly K: string
}
interface Sizes {
  /** Rows of the tile, lanes of the subgroup. */
  readonly TM: number
  readonly SG: number
}
/** Rows past the last reread it. */
const rowOf = (row: string): string => `min(${row}, params.M - 1u)`

/** Rows [M, K], K and their starts multiples of 4: a lane loads 4 steps of a row, neighbours those of the next rows. `least`: the smallest chunk wanted. */
export function rowVectors({ name, buffer, start, K }: Operand, { TM, SG }: Sizes, least: number): Broadcast {
  const rows = Math.max(powerOf2(Math.min(TM, SG)), SG / 4)
  const quads = SG / rows
  const swaps = SG === 4 && rows === 4
  const parts = Math.max(1, least / (4 * quads))
  const groups = range(Math.ceil(TM / rows))
  const lane = quads === 1 ? 'lane' : `lane % ${rows}u`
  const load = range(parts).flatMap((p) => {
    const first = `(k0 >> 2u) + ${p * quads}u`
    if (quads === 1) return groups.map((g) => `let ${name}${g}_${p} = ${buffer}[${name}m${g} + ${first}];`)
    const k = `${name}k${p}`
    return [
      `let ${k} = ${first} + lane / ${rows}u;`,
      ...groups.map(
        (g) => `let ${name}${g}_${p} = select(vec4f(), ${buffer}[${name}m${g} + min(${k}, (${K} >> 2u) - 1u)], ${k} < (${K} >> 2u));`,
      ),
    ]
  })
  return {
    chunk: 4 * quads * parts,
    exact: quads === 1 && parts === 1,
    before: groups.map((g) => `let ${name}m${g} = (${start(rowOf(`tile_row + ${g * rows}u + ${lane}`))}) >> 2u;`),
    load,
    element: (i, k) => {
      const quad = Math.floor(k / 4)
      const source = `${name}${Math.floor(i / rows)}_${Math.floor(quad / quads)}[${k % 4}]`
      return swaps ? `${SWAPS[i % 4]}(${source})` : `subgroupBroadcast(${source}, ${(quad % quads) * rows + (i % rows)}u)`
    },
    row: (i) => (swaps ? `${i - (i % 4)}u + (lane ^ ${i % 4}u)` : `${i}u`),
  }
}

/** Columns of [K, M], whose rows begin at multiples of 4: a lane loads 4 of the tile's rows at one step. */
export function columnVectors({ name, buffer, start, step, K }: Operand, { TM, SG }: Sizes): Broadcast {
  if (SG === 4 && TM % 16 === 0) {
    const groups = range(TM / 16)
    return {
      chunk: 4,
      exact: false,
      before: groups.map((g) => `let ${name}m${g} = ${start(`min(tile_row + ${16 * g}u + 4u * lane, (params.M - 1u) & 0xfffffffcu)`)};`),
      load: range(4).flatMap((k) => [
        `let ${name}c${k} = min(k0 + ${k}u, ${K} - 1u);`,
        ...groups.map(
          (g) => `let ${name}${g}_${k} = select(vec4f(), ${buffer}[(${name}m${g} + ${step(`${name}c${k}`)}) >> 2u], k0 + ${k}u < ${K});`,
        ),
      ]),
      element: (i, k) => `${SWAPS[(i >> 2) % 4]}(${name}${i >> 4}_${k}[${i % 4}])`,
      row: (i) => `${(i >> 4) * 16 + (i % 4)}u + 4u * (lane ^ ${(i >> 2) % 4}u)`,
    }
  }
  const quads = Math.max(1, Math.min(SG / 4, powerOf2(Math.ceil(TM / 4))), SG / 16)
  const steps = SG / quads
  const groups = range(Math.ceil(TM / (4 * quads)))
  return {
    chunk: steps,
    exact: false,
    before: groups.map(
      (g) => `let ${name}m${g} = ${start(`min(tile_row + ${g * 4 * quads}u + 4u * (lane / ${steps}u), (params.M - 1u) & 0xfffffffcu)`)};`,
    ),
    load: [
      `let ${name}k = k0 + lane % ${steps}u; let ${name}c = min(${name}k, ${K} - 1u);`,
      ...groups.map((g) => `let ${name}${g} = select(vec4f(), ${buffer}[(${name}m${g} + ${step(`${name}c`)}) >> 2u], ${name}k < ${K});`),
    ],
    element: (i, k) => {
      const quad = Math.floor(i / 4)
      return `subgroupBroadcast(${name}${Math.floor(quad / quads)}[${i % 4}], ${(quad % quads) * steps + k}u)`
    },
    row: (i) => `${i}u`,
  }
}

/** Rows that begin anywhere: a lane loads one step of every row. */
export function elements({ name, buffer, start, step, K }: Operand, { TM, SG }: Sizes): Broadcast {
  const chunk = Math.max(8, SG)
  const load = range(chunk / SG).flatMap((p) => [
    `let ${name}k${p} = k0 + ${p * SG}u + lane; let ${name}c${p} = min(${name}k${p}, ${K} - 1u);`,
    ...range(TM).map((i) => `let ${name}${i}_${p} = select(0.0, ${buffer}[${name}m${i} + ${step(`${name}c${p}`)}], ${name}k${p} < ${K});`),
  ])
  return {
    chunk,
    exact: false,
    before: range(TM).map((i) => `let ${name}m${i} = ${start(rowOf(`tile_row + ${i}u`))};`),
    load,
    element: (i, k) => `subgroupBroadcast(${name}${i}_${Math.floor(k / SG)}, ${k % SG}u)`,
    row: (i) => `${i}u`,
  }
}
