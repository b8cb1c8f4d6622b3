/** @file Matmul family "sgk": a register tile fed by subgroup broadcasts. The fastest where loads are what costs (software adapters). */
import { ceilDiv, defineKernel, range } from '../gpu/kernel.ts'
import { formatOfFlags, isPacked, layoutOf, type WeightFormat } from './weight_formats.ts'
import { EPILOGUE_BINDINGS, EPILOGUE_FLAGS, EPILOGUE_UNIFORMS, EPILOGUE_VARIANTS, epilogueText } from './matmul_epilogue.ts'
import { type Broadcast, columnVectors, elements, rowVectors } from './broadcast.ts'
import { MATMUL_BINDINGS, matmulCost, MATMUL_FLAGS, MATMUL_UNIFORMS, MATMUL_VARIANTS } from './matmul_common.ts'

/** Columns a workgroup covers: V single columns a lane (NT, and NN and TN with few columns), or 4 V contiguous ones. */
export const sgkColumns = (single: boolean, V: number, subgroup: number): number => (single ? V : 4 * V) * subgroup

/** The sum over one inner dimension, unrolled over a chunk. `K` and the loads are WGSL expressions. */
interface Phase {
  readonly K: string
  /** The broadcast operand; one for each of a lane's V columns where they differ (their segments do). NT only. */
  readonly rows: readonly Broadcast[]
  /** Statements declaring, for the 4 k's from `k` on: NT: `w{v}` vec4 along k; NN, TN: `w{v}_{kk}` vec4 along the columns. */
  readonly load: (q: number, k: string) => string[]
  /** Columns are read as vec4s along k, so k must stay below K - 3; other loads clamp each k themselves. */
  readonly vec4: boolean
  /** K is a multiple of the chunk, so no guard is needed. */
  readonly exact: boolean
  /** What holds for `every` k's (a multiple of the chunk, K one of it): statements at k1, the first of them. */
  readonly outer?: { readonly every: number; readonly load: readonly string[] } | null
}

function phase(p: Phase, single: boolean, TM: number, V: number): string[] {
  const { outer, rows } = p
  const { chunk } = rows[0]
  const out: string[] = rows.flatMap((r) => r.before)
  if (outer)
    out.push(
      `for (var k1 = 0u; k1 < ${p.K}; k1 += ${outer.every}u) {`,
      ...outer.load,
      `for (var k0 = k1; k0 < k1 + ${outer.every}u; k0 += ${chunk}u) {`,
    )
  else out.push(`for (var k0 = 0u; k0 < ${p.K}; k0 += ${chunk}u) {`)
  out.push(...rows.flatMap((r) => r.load))
  const quads = range(chunk / 4)
  for (const q of quads) {
    // A clamped k rereads the last element; its a is 0 there.
    const k = p.exact || !p.vec4 ? `(k0 + ${q * 4}u)` : `min(k0 + ${q * 4}u, ${p.K} - 4u)`
    const loads = [...p.load(q, k), ...(single ? range(4).flatMap((kk) => ntColumns(V, kk)) : [])]
    out.push(...loads.map((text) => text.replace(/\b(w|b)(\d+)/g, `$1${q}q$2`)))
  }
  /** Element k of row i of the broadcast operand against the columns of group g. */
  const row = (i: number, k: number, g: number): string => {
    const width = Math.min(V, 4)
    if (rows.length === 1) return `${vec(width)}(${rows[0].element(i, k)})`
    return `${vec(width)}(${range(width)
      .map((j) => rows[g * 4 + j].element(i, k))
      .join(', ')})`
  }
  // Row by row: an accumulator stays in its register for the whole chunk, and the loaded columns are read where they are used.
  const chain = (acc: string, step: (k: number) => readonly [string, string]): string =>
    `${acc} = ${range(chunk).reduce((sum, k) => `fma(${step(k).join(', ')}, ${sum})`, acc)};`
  for (const i of range(TM)) {
    if (single) for (const g of range(Math.ceil(V / 4))) out.push(chain(`acc${i}_${g}`, (k) => [row(i, k, g), `b${k >> 2}q${k % 4}_${g}`]))
    else {
      for (const k of range(chunk)) out.push(`let s${i}_${k} = vec4f(${rows[0].element(i, k)});`)
      for (const v of range(V)) out.push(chain(`acc${i}_${v}`, (k) => [`s${i}_${k}`, `w${k >> 2}q${v}_${k % 4}`]))
    }
  }
  out.push(outer ? '}}' : '}')
  return out
}
const vec = (n: number): string => (n === 1 ? 'f32' : `vec${n}f`)
/** Component kk of the V columns' vectors, gathered into vectors of up to 4 columns. */
function ntColumns(V: number, kk: number): string[] {
  return range(Math.ceil(V / 4)).map((g) => {
    const columns = range(Math.min(4, V - g * 4)).map((j) => `w${g * 4 + j}[${kk}]`)
    return `let b${kk}_${g} = ${columns.length === 1 ? columns[0] : `${vec(columns.length)}(${columns.join(', ')})`};`
  })
}

/** Loads of a frozen weight. Packed ones are decoded 8 at a time: along k (NT, where a lane's scales hold for a block), or along the columns of two vec4s. */
function weightLoads(format: WeightFormat, nt: boolean, exact: boolean, V: number, SG: number): Pick<Phase, 'load' | 'outer'> {
  const packed = isPacked(format)
  const quants = (bits: string, half: number): string =>
    format === 'nf4' && SG >= 8 ? `nf4_shuffled(${bits}.x, ${half}u, nf4_codes)` : `quants(${bits}, ${half}u)`
  if (nt) {
    const load: Phase['load'] = (q, k) =>
      range(V).flatMap((v) => {
        if (!packed) return [`let w${v} = load_w4((bn${v} + ${k}) >> 2u);`]
        const bits = `bits${Math.floor(q / 2)}_${v}`
        return [
          ...(q % 2 === 0 ? [`let ${bits} = quant_bits((bn${v} + ${k}) >> 3u);`] : []),
          `let w${v} = fma(${quants(bits, q % 2)}, vec4f(dm${v}.x), vec4f(dm${v}.y));`,
        ]
      })
    return {
      load,
      outer: packed ? { every: layoutOf(format).block, load: range(V).map((v) => `let dm${v} = block_scale((bn${v} + k1) >> 2u);`) } : null,
    }
  }
  const row = (k: string, kk: number | string): string => {
    const at = `${k} + ${typeof kk === 'number' ? `${kk}u` : kk}`
    return exact ? `(${at})` : `min(${at}, params.K - 1u)`
  }
  if (!packed || V % 2) {
    const load: Phase['load'] = (_q, k) =>
      range(4).flatMap((kk) =>
        range(V).map((v) => `let w${v}_${kk} = load_w4((params.b_off + ${row(k, kk)} * params.ldb + col${v}) >> 2u);`),
      )
    return { load }
  }
  // Lanes whose columns lie in one block share its scales: each decodes those of other rows, and they exchange them.
  const sharing = Math.min(4, SG, layoutOf(format).block / (4 * V))
  const load: Phase['load'] = (q, k) => [
    ...range(4 / sharing).map(
      (i) => `let dm${q}_${i} = block_scale((params.b_off + ${row(k, `${i * sharing}u + lane % ${sharing}u`)} * params.ldb + col0) >> 2u);`,
    ),
    ...range(4).flatMap((kk) => [
      `let dm_${q}_${kk} = subgroupShuffle(dm${q}_${Math.floor(kk / sharing)}, lane / ${sharing}u * ${sharing}u + ${kk % sharing}u);`,
      ...range(V / 2).flatMap((p) => {
        const bits = `bits${q * 4 + kk}_${p}`
        return [
          `let ${bits} = quant_bits((params.b_off + ${row(k, kk)} * params.ldb + col${2 * p}) >> 3u);`,
          ...[0, 1].map((h) => `let w${2 * p + h}_${kk} = fma(${quants(bits, h)}, vec4f(dm_${q}_${kk}.x), vec4f(dm_${q}_${kk}.y));`),
        ]
      }),
    ]),
  ]
  return { load }
}

/** NN and TN with few columns: a lane's column is read an element at a time. */
const narrowLoads =
  (V: number): Phase['load'] =>
  (_q, k) =>
    range(V).map(
      (v) =>
        `let w${v} = vec4f(${range(4)
          .map((kk) => `w[bn${v} + min(${k} + ${kk}u, params.K - 1u) * params.ldb]`)
          .join(', ')});`,
    )

function generate({ TM, V, SPLIT, SUBGROUP: SG }: Record<'TM' | 'V' | 'SPLIT' | 'SUBGROUP', number>, flags: ReadonlySet<string>): string {
  const tn = flags.has('layout_tn')
  const narrow = flags.has('narrow')
  /** A lane owns single columns. */
  const single = narrow || (!flags.has('layout_nn') && !tn)
  const paired = flags.has('paired')
  const format = formatOfFlags(flags)
  const packed = isPacked(format)
  const groups = single ? Math.ceil(V / 4) : V
  const width = single ? vec(Math.min(V, 4)) : 'vec4f'
  const out: string[] = [`let tile_row = (wg.y + params.base) * ${TM}u; let tile_col = wg.x * ${sgkColumns(single, V, SG)}u;`]
  /** First of the columns that lanes hold as their v-th. A pair's second column follows `params.pair` after its first. */
  const half = V / 2
  const start = (v: number): string => (paired ? `(at${v % half}${v < half ? '' : ' + params.pair'})` : `(tile_col + ${v * SG}u)`)
  if (paired) for (const v of range(half)) out.push(`let p${v} = wg.x * ${half * SG}u + ${v * SG}u; let at${v} = pair_column(p${v});`)
  if (format === 'nf4' && SG >= 8) out.push('let nf4_codes = nf4_of_lane(lane);')
  for (const v of range(V)) {
    if (single)
      out.push(`let col${v} = ${start(v)} + lane; let bn${v} = params.b_off + min(col${v}, params.N - 1u)${narrow ? '' : ' * params.ldb'};`)
    // Packed weights: N is a multiple of 32, and the second vec4 of 8 columns stays beside the first.
    else out.push(`let col${v} = min(tile_col + lane * ${4 * V}u + ${4 * v}u, params.N - ${packed && V % 2 === 0 ? 8 - 4 * (v % 2) : 4}u);`)
  }
  for (const i of range(TM)) for (const g of range(groups)) out.push(`var acc${i}_${g} = ${width}(0.0);`)
  const sizes = { TM, SG }
  const a = {
    name: 'a',
    buffer: 'a',
    start: (row: string) => `params.a_off + ${row}${tn ? '' : ' * params.lda'}`,
    step: (k: string) => (tn ? `${k} * params.lda` : k),
    K: 'params.K',
  }
  const vectors = flags.has('a_vec4')
  const rows = !vectors ? elements(a, sizes) : tn ? columnVectors(a, sizes) : rowVectors(a, sizes, packed && single ? 8 : 4)
  const exact = rows.exact || (packed && single)
  const loads = narrow ? { load: narrowLoads(V) } : weightLoads(format, single, exact, V, SG)
  out.push(...phase({ K: a.K, rows: [rows], ...loads, vec4: single && !narrow, exact }, single, TM, V))
  if (flags.has('lora')) {
    // A segment starts at a multiple of the subgroup: the v-th columns of a tile lie in one, though the tile may not.
    if (single)
      for (const v of range(V))
        out.push(`let h_off${v} = (select(0u, 1u, ${start(v)} >= params.seg0) + select(0u, 1u, ${start(v)} >= params.seg1)) * params.R;`)
    const h = range(single && SPLIT === 1 ? V : 1).map((v) => {
      const segment = single ? ` + h_off${v}` : ''
      const operand = { name: `h${v}_`, buffer: 'h', start: (row: string) => `${row} * params.h_ld${segment}`, step: a.step, K: 'params.R' }
      return vectors ? rowVectors(operand, sizes, 4) : elements(operand, sizes)
    })
    const load: Phase['load'] = single
      ? (_q, k) => range(V).map((v) => `let w${v} = lb[(min(col${v}, params.N - 1u) * params.R + ${k}) >> 2u];`)
      : (_q, k) =>
          range(4).flatMap((kk) =>
            range(V).map((v) => `let w${v}_${kk} = lb[(min(${k} + ${kk}u, params.R - 1u) * params.N + col${v}) >> 2u];`),
          )
    out.push(...phase({ K: 'params.R', rows: h, load, vec4: single, exact: h[0].exact }, single, TM, V))
  }
  const sum = (i: number, v: number): string => `acc${i}_${Math.floor(v / 4)}${V === 1 ? '' : `[${v % 4}]`}`
  /** A clamped column belongs to the lane that starts there: only it stores. */
  const owns = (v: number): string => `tile_col + lane * ${4 * V}u + ${4 * v}u == col${v}`
  for (const i of range(TM)) {
    if (single) for (const v of range(V)) out.push(`store(tile_row + ${rows.row(i)}, col${v}, ${sum(i, v)});`)
    else
      for (const v of range(V))
        out.push(
          `if (${owns(v)}) { ${range(4)
            .map((j) => `store(tile_row + ${rows.row(i)}, col${v} + ${j}u, acc${i}_${v}[${j}]);`)
            .join(' ')} }`,
        )
  }
  const ungate = flags.has('ungate')
  // A lane goes over its own columns, from where it has stored them.
  const eachRow = (body: string): string => `for (var m = tile_row; m < min(tile_row + ${TM}u, params.M); m++) { ${body} }`
  if (paired) for (const v of range(half)) out.push(`if (2u * (p${v} + lane) < params.N) { ${eachRow(`finish_pair(m, p${v} + lane);`)} }`)
  if (ungate) for (const v of range(V)) out.push(`if (${owns(v)}) { ${eachRow(`finish_ungating(m, col${v});`)} }`)
  return `${epilogueText(flags)}
@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
${out.join('\n')}
}`
}

/** TM: rows of a tile. V: columns a lane (SINGLE) or groups of 4 columns a lane. SINGLE: NT, or flag `narrow` (NN, TN, f32, no low-rank term). SPLIT: segments may begin inside a tile, at multiples of the subgroup. K (NT), N (NN, TN), ldb and b_off are multiples of 4;
 * flag `a_vec4`: lda, a_off and (NN) K too, and R and h_ld.
 * `paired`: V is even and `pair` a multiple of the subgroup. */
export const matmulSgkKernel = defineKernel({
  name: 'matmul_sgk',
  bindings: { ...MATMUL_BINDINGS, ...EPILOGUE_BINDINGS },
  uniforms: { ...MATMUL_UNIFORMS, ...EPILOGUE_UNIFORMS },
  flags: [...MATMUL_FLAGS, 'a_vec4', 'narrow', ...EPILOGUE_FLAGS],
  variants: [
    ...MATMUL_VARIANTS,
    ...[...MATMUL_VARIANTS, ...EPILOGUE_VARIANTS].map((v) => ['a_vec4', ...v] as const),
    ['w_f32', 'layout_nn', 'narrow'],
    ['w_f32', 'layout_nn', 'narrow', 'a_vec4'],
    ['w_f32', 'layout_tn', 'narrow', 'accumulate', 'a_vec4'],
  ],
  constants: { TM: 8, V: 2, SINGLE: 0, SPLIT: 0, SUBGROUP: 8 },
  subgroups: 'required',
  cost: matmulCost,
  split: 'y',
  generate,
  grid: ({ M, N }, { TM, V, SINGLE, SUBGROUP }) => [ceilDiv(N, sgkColumns(SINGLE === 1, V, SUBGROUP)), ceilDiv(M, TM)],
})
