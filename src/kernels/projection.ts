/** @file WGSL of a projection of rows onto a few vectors (a low rank): h[m, j] = alpha Σ_k x[m, k] P(k, j). Shared by `project` and by the norms, which
 * project what they have just written, so that LoRA's down-projection and its transpose cost no dispatch of their own there. */
import { range } from '../gpu/kernel.ts'
import { reduction } from './reduce.ts'

export const PROJECTION_UNIFORMS = { ranks: 'u32', alpha: 'f32' } as const
/** `p_rows`: P is [J, K] (LoRA's A); otherwise [K, R] (LoRA's B). */
export const PROJECTION_FLAGS = ['project', 'p_rows'] as const
/** ROWS: rows of x a workgroup takes, so that P is read once for all of them. BLOCK: vec4s of outputs at a time; divides those there are. */
export const PROJECTION_CONSTANTS = { ROWS: 1, BLOCK: 1 } as const

/** Defines `project(source rows first … first + ROWS - 1, k from .. to in vec4s, ranks at column)`. The shader declares `p`, `h` as vec4 arrays, and
 * params.rows, .width (vec4s of a row), .ranks (vec4s of a row of h), .alpha. `source`: the array that is read. */
export function projection(
  source: string,
  rows: boolean,
  c: { WORKGROUP: number; ROWS: number; BLOCK: number; SUBGROUP?: number },
): string {
  const { WORKGROUP, ROWS, BLOCK } = c
  const blocks = range(BLOCK)
  const loads = blocks.flatMap((b) =>
    range(4).map((i) =>
      rows
        ? `let p${b}_${i} = p[((j + ${b}u) * 4u + ${i}u) * params.width + k];`
        : `let p${b}_${i} = p[(k * 4u + ${i}u) * stride + j + ${b}u];`,
    ),
  )
  const product = (r: number, b: number): string =>
    rows
      ? `acc${r}_${b} += vec4f(${range(4)
          .map((i) => `dot(x${r}, p${b}_${i})`)
          .join(', ')});`
      : range(4)
          .map((i) => `acc${r}_${b} = fma(vec4f(x${r}[${i}]), p${b}_${i}, acc${r}_${b});`)
          .join(' ')
  return `${reduction('row_sum4', WORKGROUP, c.SUBGROUP ?? 0)}
fn project(first: u32, k_from: u32, k_to: u32, stride: u32, column: u32, lane: u32) {
  let last = params.rows - 1u;
  ${range(ROWS)
    .map((r) => `let at${r} = min(first + ${r}u, last) * params.width;`)
    .join(' ')}
  for (var j = 0u; j < stride; j += ${BLOCK}u) {
    ${range(ROWS)
      .flatMap((r) => blocks.map((b) => `var acc${r}_${b} = vec4f(0.0);`))
      .join(' ')}
    for (var k = k_from + lane; k < k_to; k += ${WORKGROUP}u) {
      ${loads.join('\n      ')}
      ${range(ROWS)
        .map((r) => `{ let x${r} = ${source}[at${r} + k]; ${blocks.map((b) => product(r, b)).join(' ')} }`)
        .join('\n      ')}
    }
    ${range(ROWS)
      .flatMap((r) =>
        blocks.map(
          (b) =>
            `{ let sum = row_sum4(acc${r}_${b}, lane) * params.alpha; if (lane == 0u && first + ${r}u <= last) { h[(first + ${r}u) * params.ranks + column + j + ${b}u] = sum; } }`,
        ),
      )
      .join('\n    ')}
  }
}`
}
