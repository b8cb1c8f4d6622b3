/** @file The third way of computing a tile (family "reg"): each invocation reads what its outputs need straight from memory into registers, and its neighbours read the same
 * through the cache. No workgroup memory, no barrier, no subgroup: what GPUs with fast caches like (jax-js takes 4 x 4 outputs an invocation, 8 x 8 invocations, four steps
 * unrolled, and no workgroup memory: https://github.com/ekzhang/jax-js, src/tuner.ts). Everything around the product is matmul_tile's. */
import { range } from '../gpu/kernel.ts'

export interface RegisterTile {
  readonly layout: 'nt' | 'nn' | 'tn'
  /** An invocation's outputs: rows, and groups of 4 columns; WGSL of where they lie. Rows come in fours beside each other. */
  readonly rows: readonly number[]
  readonly groups: readonly number[]
  readonly row: (i: number) => string
  readonly col: (g: number) => string
}

/** Adds to acc{row}_{group} over the inner dimension from k0 to k_end, four steps a turn. Rows and columns beyond the product read its last ones, and are not stored; steps beyond it count as zeros. */
export function registerTileText({ layout, rows, groups, row, col }: RegisterTile): string[] {
  const steps = range(4)
  const fours = range(rows.length / 4)
  const b = (k: string, n: string): string => `load_w4((params.b_off + ${k} * params.ldb + ${n}) >> 2u)`
  const step = (e: number): string => `min(k + ${e}u, params.K - 1u)`
  const where = [
    ...(layout === 'tn'
      ? fours.map((i) => `let a_at${i} = params.a_off + ${row(4 * i)};`)
      : rows.map((i) => `let a_at${i} = params.a_off + min(${row(i)}, params.M - 1u) * params.lda;`)),
    ...(layout === 'nt'
      ? groups.flatMap((g) => steps.map((e) => `let b_at${g}_${e} = params.b_off + min(${col(g)} + ${e}u, params.N - 1u) * params.ldb;`))
      : groups.map((g) => `let b_at${g} = min(${col(g)}, params.N - 4u);`)),
  ]
  const loads =
    layout === 'tn'
      ? fours.flatMap((i) =>
          steps.map((e) => `let a${i}_${e} = select(vec4f(), load_a4(a_at${i} + ${step(e)} * params.lda), k + ${e}u < k_end);`),
        )
      : rows.map((i) => `let a${i} = below(load_a4(a_at${i} + k), k, k_end);`)
  const columns =
    layout === 'nt'
      ? groups.flatMap((g) => steps.map((e) => `let b${g}_${e} = load_w4((b_at${g}_${e} + k) >> 2u);`))
      : groups.flatMap((g) => steps.map((e) => `let b${g}_${e} = ${b(step(e), `b_at${g}`)};`))
  const element = (i: number, e: number): string => (layout === 'tn' ? `a${Math.floor(i / 4)}_${e}[${i % 4}]` : `a${i}[${e}]`)
  const products =
    layout === 'nt'
      ? rows.flatMap((i) => groups.map((g) => `acc${i}_${g} += vec4f(${steps.map((e) => `dot(a${i}, b${g}_${e})`).join(', ')});`))
      : rows.flatMap((i) =>
          steps.flatMap((e) => groups.map((g) => `acc${i}_${g} = fma(vec4f(${element(i, e)}), b${g}_${e}, acc${i}_${g});`)),
        )
  return [...where, 'for (var k = k0; k < k_end; k += 4u) {', ...loads, ...columns, ...products, '}']
}
