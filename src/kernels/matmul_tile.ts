/** @file Matmul family "tile": tiles in workgroup memory, a register tile an invocation. What GPUs use; its sizes are constants, so that a device can be tuned. */
import { ceilDiv, defineKernel, range } from '../gpu/kernel.ts'
import { collectText, declareText, type Fragments, type FragmentSizes, multiplyText, workingSubgroups } from './fragments.ts'
import { EPILOGUE_BINDINGS, EPILOGUE_FLAGS, EPILOGUE_UNIFORMS, EPILOGUE_VARIANTS, epilogueText } from './matmul_epilogue.ts'
import { registerTileText } from './register_tile.ts'
import { MATMUL_BINDINGS, MATMUL_FLAGS, MATMUL_UNIFORMS, MATMUL_VARIANTS, matmulCost } from './matmul_common.ts'

/** BM x BN outputs a workgroup, TM x TN an invocation, BK of the inner dimension at a time. */
export interface Tile {
  readonly BM: number
  readonly BN: number
  readonly BK: number
  readonly TM: number
  readonly TN: number
}
const tile = (BM: number, BN: number, BK: number, TM: number, TN: number): Tile => ({ BM, BN, BK, TM, TN })
/** Tiles that a device is tuned among: at most 256 invocations and 16 KiB of workgroup memory. The first two are what untuned devices use. */
export const TILES: readonly Tile[] = [
  tile(64, 64, 16, 8, 4),
  tile(32, 32, 16, 4, 4),
  tile(64, 64, 16, 8, 8),
  tile(64, 64, 16, 4, 4),
  tile(128, 64, 16, 8, 8),
  tile(64, 128, 16, 8, 8),
  tile(128, 128, 8, 8, 8),
  tile(128, 128, 16, 8, 8),
  tile(32, 64, 16, 4, 4),
  tile(32, 128, 16, 4, 8),
]
/** Tiles for subgroup matrices; with a strip of the product in f32, at most 16 KiB as well. */
export const MATRIX_TILES: readonly Tile[] = [
  tile(64, 64, 16, 8, 4),
  tile(64, 64, 16, 8, 8),
  tile(32, 64, 16, 4, 4),
  tile(32, 32, 16, 4, 4),
]
/** Tiles that are read straight from memory: 64 invocations. BK is a turn of the loop. */
export const REGISTER_TILES: readonly Tile[] = [tile(32, 32, 4, 4, 4), tile(64, 32, 4, 8, 4)]
/** A tile with fewer workgroups than this leaves a GPU idle: a smaller one is used, or the inner dimension is split. */
const ENOUGH_GROUPS = 64

/** The tile for an output where no device was asked. */
export function defaultTile(M: number, N: number): Tile {
  const [large, small] = TILES
  return ceilDiv(M, large.BM) * ceilDiv(N, large.BN) >= ENOUGH_GROUPS ? large : small
}
/** Parts of the inner dimension that are summed by workgroups of their own: for small outputs over a long one. */
export function splitOf(t: Tile, M: number, N: number, K: number): number {
  const groups = ceilDiv(M, t.BM) * ceilDiv(N, t.BN)
  return Math.max(1, Math.min(8, Math.floor(K / 128), Math.floor(ENOUGH_GROUPS / groups)))
}

/** Text that moves a tile of `size` rows (columns) from an operand into registers, and from there into workgroup memory. */
interface Mover {
  readonly registers: string
  readonly load: string
  readonly store: string
}
interface Operand {
  readonly name: 'a' | 'b'
  readonly size: number
  /** WGSL of the 4 elements from row (column) `at` on, of inner index k; or null where the contiguous axis is the inner one. */
  readonly across: ((at: string, k: string) => string) | null
  /** WGSL of the 4 elements of row (column) `at` from inner index k on. */
  readonly along: (at: string, k: string) => string
  /** WGSL of the row (column) at which the tile's q-th four begin, and the number of all. */
  readonly first: (q: string) => string
  readonly count: string
}

/** Where an invocation's outputs lie in the tile: TX by TY invocations, `rows` of each and `groups` of 4 columns. */
interface Places {
  readonly BM: number
  readonly BN: number
  readonly BK: number
  readonly TX: number
  readonly TY: number
  readonly rows: readonly number[]
  readonly groups: readonly number[]
}

/** Each invocation moves whole units: 4 elements across, or 4 x 4 that it transposes. */
function mover({ name, size, across, along, first, count }: Operand, BK: number, threads: number): Mover {
  const quads = size / 4
  const units = across ? quads * BK : (quads * BK) / 4
  const each = range(ceilDiv(units, threads))
  const parts = across ? [0] : range(4)
  const reg = (j: number, p: number) => `${name}_${j}_${p}`
  const guarded = (j: number, body: string): string =>
    (j + 1) * threads <= units ? `{ ${body} }` : `if (lid + ${j * threads}u < ${units}u) { ${body} }`
  const place = (j: number): string =>
    `let u = lid + ${j * threads}u; let q = u % ${quads}u; let kk = u / ${quads}u; let at = ${first('q')}; let k = k0 + kk * ${across ? 1 : 4}u;`
  return {
    registers: each.flatMap((j) => parts.map((p) => `var ${reg(j, p)} = vec4f(0.0);`)).join(' '),
    load: each
      .map((j) =>
        guarded(
          j,
          `${place(j)} ${
            across
              ? `${reg(j, 0)} = vec4f(0.0); if (k < k_end && at < ${count}) { ${reg(j, 0)} = ${across('at', 'k')}; }`
              : parts
                  .map(
                    (p) => `${reg(j, p)} = vec4f(0.0); if (k < k_end) { ${reg(j, p)} = ${along(`min(at + ${p}u, ${count} - 1u)`, 'k')}; }`,
                  )
                  .join(' ')
          }`,
        ),
      )
      .join('\n  '),
    store: each
      .map((j) =>
        guarded(
          j,
          `let u = lid + ${j * threads}u; let q = u % ${quads}u; let kk = u / ${quads}u; ${
            across
              ? `put_${name}(kk * ${quads}u + q, ${reg(j, 0)});`
              : range(4)
                  .map(
                    (e) => `put_${name}((kk * 4u + ${e}u) * ${quads}u + q, vec4f(${parts.map((p) => `${reg(j, p)}[${e}]`).join(', ')}));`,
                  )
                  .join(' ')
          }`,
        ),
      )
      .join('\n  '),
  }
}

/** The tile's product, an invocation's outer products in registers. */
function outerProducts({ BM, BN, BK, TX, TY, rows, groups }: Places): string[] {
  return [
    `for (var k = 0u; k < ${BK}u; k++) {`,
    ...range(rows.length / 4).map((i) => `let a${i} = tile_a[k * ${BM / 4}u + ${i * TY}u + ty];`),
    ...groups.map((g) => `let b${g} = tile_b[k * ${BN / 4}u + ${g * TX}u + tx];`),
    ...rows.flatMap((i) => groups.map((g) => `acc${i}_${g} = fma(vec4f(a${Math.floor(i / 4)}[${i % 4}]), b${g}, acc${i}_${g});`)),
    '}',
  ]
}

function generate(c: Readonly<Record<keyof Tile | 'SPLIT' | keyof FragmentSizes, number>>, flags: ReadonlySet<string>): string {
  const { BM, BN, BK, TM, TN, SPLIT } = c
  const type = flags.has('matrix_f16') ? 'f16' : flags.has('matrix_f32') ? 'f32' : null
  const [nn, tn] = [flags.has('layout_nn'), flags.has('layout_tn')]
  const [TX, TY] = [BN / TN, BM / TM]
  const threads = TX * TY
  const [rows, groups] = [range(TM), range(TN / 4)]
  const places: Places = { BM, BN, BK, TX, TY, rows, groups }
  const fragments: Fragments | null = type && { ...c, type, TX, TY, rows, groups, ...workingSubgroups(c, threads) }
  const a = mover(
    {
      name: 'a',
      size: BM,
      first: (q) => `row0 + ${q} * 4u`,
      count: 'params.M',
      across: tn ? (m, k) => `load_a4(params.a_off + ${k} * params.lda + ${m})` : null,
      along: (m, k) => `below(load_a4(params.a_off + (${m}) * params.lda + ${k}), ${k}, k_end)`,
    },
    BK,
    threads,
  )
  const b = mover(
    {
      name: 'b',
      size: BN,
      first: (q) => `column(wg.x, ${q})`,
      count: 'params.N',
      across: nn || tn ? (n, k) => `load_w4((params.b_off + ${k} * params.ldb + ${n}) >> 2u)` : null,
      along: (n, k) => `load_w4((params.b_off + (${n}) * params.ldb + ${k}) >> 2u)`,
    },
    BK,
    threads,
  )
  /** Where invocations' rows and columns lie: groups of four, the groups of neighbours beside each other. */
  const row = (i: number): string => `(row0 + (${Math.floor(i / 4) * TY}u + ty) * 4u + ${i % 4}u)`
  const col = (g: number): string => `column(wg.x, ${g * TX}u + tx)`
  const out = [
    `let row0 = (wg.y + params.base) * ${BM}u; let tx = lid % ${TX}u; let ty = lid / ${TX}u;`,
    SPLIT > 1
      ? `let part = (params.K + ${SPLIT * BK - 1}u) / ${SPLIT * BK}u * ${BK}u; var k0 = min(wg.z * part, params.K); let k_end = min(k0 + part, params.K);`
      : 'var k0 = 0u; let k_end = params.K;',
    ...rows.map((i) => groups.map((g) => `var acc${i}_${g} = vec4f(0.0);`).join(' ')),
  ]
  if (flags.has('direct')) out.push(...registerTileText({ layout: nn ? 'nn' : tn ? 'tn' : 'nt', rows, groups, row, col }))
  else
    out.push(
      a.registers,
      b.registers,
      ...(fragments ? declareText(fragments) : []),
      // The next tile is loaded before this one is multiplied: its loads are on their way meanwhile.
      'var ready = false;',
      'loop {',
      'let more = k0 < k_end;',
      `if (more) { ${a.load}\n${b.load} }`,
      'if (ready) {',
      ...(fragments ? multiplyText(fragments) : outerProducts(places)),
      '}',
      'if (!more) { break; }',
      'workgroupBarrier();',
      a.store,
      b.store,
      'workgroupBarrier();',
      'ready = true;',
      `k0 += ${BK}u;`,
      '}',
      ...(fragments ? collectText(fragments) : []),
    )
  if (flags.has('lora')) out.push(...lowRank({ nn, rows, groups, row, col }))
  for (const i of rows) for (const g of groups) out.push(`store(${row(i)}, ${col(g)}, acc${i}_${g}, ${SPLIT > 1 ? 'wg.z' : '0u'});`)
  // Invocations go over the tile again, from where the workgroup has stored it.
  const again = (units: number, body: string): string[] => [
    'storageBarrier();',
    `for (var i = lid; i < ${BM * units}u; i += ${threads}u) { let m = row0 + i / ${units}u; let j = i % ${units}u; if (m < params.M) { ${body} } }`,
  ]
  if (flags.has('paired')) out.push(...again(BN / 2, `let p = wg.x * ${BN / 2}u + j; if (2u * p < params.N) { finish_pair(m, p); }`))
  if (flags.has('ungate')) out.push(...again(BN / 4, `let n = wg.x * ${BN}u + j * 4u; if (n < params.N) { finish_ungating(m, n); }`))
  return `${epilogueText(flags)}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lid: u32${fragments ? ', @builtin(subgroup_id) sg: u32' : ''}) {
${out.join('\n')}
}`
}

/** The second sum, over R, straight from memory: it is short, and neighbours read the same. */
function lowRank(o: {
  readonly nn: boolean
  readonly rows: readonly number[]
  readonly groups: readonly number[]
  readonly row: (i: number) => string
  readonly col: (g: number) => string
}): string[] {
  const { nn, rows, groups, row, col } = o
  const hRow = rows.map((i) => `let hr${i} = min(${row(i)}, params.M - 1u) * params.h_ld;`)
  const cols = groups.map((g) => `let n${g} = min(${col(g)}, params.N - 4u);`)
  if (nn)
    return [
      ...hRow,
      ...cols,
      'for (var q = 0u; q < params.R; q++) {',
      ...groups.map((g) => `let l${g} = lb[(q * params.N + n${g}) >> 2u];`),
      ...rows.flatMap((i) => [
        `let h${i} = vec4f(h[hr${i} + q]);`,
        ...groups.map((g) => `acc${i}_${g} = fma(h${i}, l${g}, acc${i}_${g});`),
      ]),
      '}',
    ]
  return groups.flatMap((g) => [
    '{',
    ...hRow,
    `let n = ${col(g)}; let off = (select(0u, 1u, n >= params.seg0) + select(0u, 1u, n >= params.seg1)) * params.R;`,
    'for (var q = 0u; q < params.R; q += 4u) {',
    ...range(4).map((e) => `let l${e} = lb[(min(n + ${e}u, params.N - 1u) * params.R + q) >> 2u];`),
    ...rows.flatMap((i) => [
      `let at${i} = hr${i} + off + q; let h${i} = vec4f(h[at${i}], h[at${i} + 1u], h[at${i} + 2u], h[at${i} + 3u]);`,
      `acc${i}_${g} += vec4f(${range(4)
        .map((e) => `dot(h${i}, l${e})`)
        .join(', ')});`,
    ]),
    '}',
    '}',
  ])
}

/** Tiles in workgroup memory. K (NT), N (NN, TN), ldb, b_off and the segments' columns are multiples of 4; flag `a_vec4`: lda and a_off too. SPLIT parts of
 * the inner dimension go to c one behind the other, [SPLIT, M, N], to be added up by matmul_parts; then ldc is N. Flags `matrix_f16` and `matrix_f32`: the
 * tile's product by subgroup matrices (fragments.ts); `direct`: without workgroup memory (register_tile.ts). */
export const matmulTileKernel = defineKernel({
  name: 'matmul_tile',
  bindings: { ...MATMUL_BINDINGS, ...EPILOGUE_BINDINGS },
  uniforms: { ...MATMUL_UNIFORMS, ...EPILOGUE_UNIFORMS },
  flags: [...MATMUL_FLAGS, 'a_vec4', ...EPILOGUE_FLAGS, 'direct', 'matrix_f16', 'matrix_f32'],
  variants: [
    ...MATMUL_VARIANTS,
    ...EPILOGUE_VARIANTS,
    ['w_f32', 'a_vec4'],
    ['w_f32', 'layout_tn', 'a_vec4'],
    ['w_f32', 'direct', 'a_vec4'],
    ['w_f32', 'layout_tn', 'direct'],
    ['w_q4_1', 'direct', 'lora', 'residual', 'bias'],
    ['w_q4_1', 'layout_nn', 'direct', 'lora', 'accumulate'],
    ['w_f32', 'direct', 'lora', 'paired', 'rope'],
    ['w_f32', 'matrix_f32'],
    ['w_q4_1', 'matrix_f16'],
  ],
  constants: { ...TILES[0], SPLIT: 1, FM: 8, FN: 8, FK: 8, LANES: 32, LIFT: 1 },
  generate,
  grid: ({ M, N }, { BM, BN, SPLIT }) => [ceilDiv(N, BN), ceilDiv(M, BM), SPLIT],
  cost: matmulCost,
  split: 'y',
})

/** c (+)= alpha * the sum of `parts` matrices [M, N], always in the same order. */
export const matmulPartsKernel = defineKernel({
  name: 'matmul_parts',
  bindings: { p: 'read', c: 'write' },
  uniforms: { M: 'u32', N: 'u32', ldc: 'u32', c_off: 'u32', parts: 'u32', alpha: 'f32' },
  flags: ['accumulate'],
  constants: {},
  grid: ({ M, N }) => [ceilDiv(N, 64), M],
})
