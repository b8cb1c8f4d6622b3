/** @file WGSL shared by the attention kernels of family "sgk": a lane holds one row of a head in registers, and the rows it meets are loaded
 * once per subgroup, a part by each lane, and broadcast. */

import { range } from '../gpu/kernel.ts'

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))

/** Constants and functions for rows of HEAD_DIM floats (D4 vec4s) in a subgroup of SUBGROUP lanes. A lane has ROWS rows of its own, 1 or 2,
 * SUBGROUP apart; what it has one of for each is a vec2 (of which ROWS = 1 uses the first).
 *   STEP   rows that are loaded together: the fewest that fill every lane evenly;
 *   SHARE  vec4s a lane loads of them: vec4 i of lane l is number i * SUBGROUP + l of the STEP rows laid end to end;
 *   dots(own, share)      a lane's rows times each of the STEP rows;
 *   axpys(acc, w, share)  acc += sum of w[k] times row k. */
export function rowFunctions(headDim: number, subgroup: number, rows: number): string {
  const D4 = headDim / 4
  const S = Math.max(subgroup, 1)
  const step = S / gcd(D4, S)
  const share = (step * D4) / S
  // Component d of row k, wherever it was loaded. Broadcast from a named value, so that one load register serves all.
  const element = (k: number, d: number): string => `subgroupBroadcast(x${Math.floor((k * D4 + d) / S)}, ${(k * D4 + d) % S}u)`
  const shares = range(share).map((i) => `let x${i} = (*share)[${i}];`)
  const own = range(rows)
  /** A line for each of the lane's rows, every vec4 of a loaded row broadcast once. */
  const products = (k: number, line: (r: number, d: number) => string): string =>
    range(D4)
      .map((d) => `{ let e = ${element(k, d)}; ${own.map((r) => line(r, d)).join(' ')} }`)
      .join('\n')
  const total = (r: number): string => `(a${r}.x + a${r}.y) + (a${r}.z + a${r}.w)`
  const row = `ptr<function, array<vec4f, ${rows * D4}>>`
  const part = `ptr<function, array<vec4f, ${share}>>`
  return `
const ROWS = ${rows}u;
const STEP = ${step}u;
const SHARE = ${share}u;
fn dots(own: ${row}, share: ${part}) -> array<vec2f, ${step}> {
${shares.join('\n')}
var s: array<vec2f, ${step}>;
${range(step)
  .map(
    (k) => `{ ${own.map((r) => `var a${r} = vec4f();`).join(' ')}
${products(k, (r, d) => `a${r} = fma((*own)[${r * D4 + d}], e, a${r});`)}
s[${k}] = vec2f(${total(0)}, ${total(rows - 1)}); }`,
  )
  .join('\n')}
return s;
}
fn axpys(acc: ${row}, w: array<vec2f, ${step}>, share: ${part}) {
${shares.join('\n')}
${range(step)
  .map(
    (k) => `{ ${own.map((r) => `let p${r} = vec4f(w[${k}][${r}]);`).join(' ')}
${products(k, (r, d) => `(*acc)[${r * D4 + d}] = fma(p${r}, e, (*acc)[${r * D4 + d}]);`)} }`,
  )
  .join('\n')}
}
`
}
