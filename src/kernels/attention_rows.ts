/** @file WGSL shared by the attention kernels of family "sgk": a lane holds one row of a head in registers, and the rows it meets are loaded
 * once per subgroup, a part by each lane, and broadcast. */

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))

/** Constants and functions for rows of HEAD_DIM floats (D4 vec4s) in a subgroup of SUBGROUP lanes:
 *   STEP   rows that are loaded together: the fewest that fill every lane evenly;
 *   SHARE  vec4s a lane loads of them: vec4 i of lane l is number i * SUBGROUP + l of the STEP rows laid end to end;
 *   dots(row, share)      a lane's row times each of the STEP rows;
 *   axpys(acc, w, share)  acc += sum of w[k] times row k. */
export function rowFunctions(headDim: number, subgroup: number): string {
  const D4 = headDim / 4
  const S = Math.max(subgroup, 1)
  const step = S / gcd(D4, S)
  const share = (step * D4) / S
  const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
  // Component d of row k, wherever it was loaded. Broadcast from a named value, so that one load register serves all.
  const element = (k: number, d: number): string => `subgroupBroadcast(x${Math.floor((k * D4 + d) / S)}, ${(k * D4 + d) % S}u)`
  const shares = range(share).map((i) => `let x${i} = (*share)[${i}];`)
  const row = `ptr<function, array<vec4f, ${D4}>>`
  const part = `ptr<function, array<vec4f, ${share}>>`
  return `
const STEP = ${step}u;
const SHARE = ${share}u;
fn dots(row: ${row}, share: ${part}) -> array<f32, ${step}> {
${shares.join('\n')}
var s: array<f32, ${step}>;
${range(step)
  .map(
    (k) =>
      `{ var a = (*row)[0] * ${element(k, 0)};\n${range(D4 - 1)
        .map((d) => `a = fma((*row)[${d + 1}], ${element(k, d + 1)}, a);`)
        .join('\n')}\ns[${k}] = (a.x + a.y) + (a.z + a.w); }`,
  )
  .join('\n')}
return s;
}
fn axpys(acc: ${row}, w: array<f32, ${step}>, share: ${part}) {
${shares.join('\n')}
${range(step)
  .map(
    (k) =>
      `{ let p = vec4f(w[${k}]);\n${range(D4)
        .map((d) => `(*acc)[${d}] = fma(p, ${element(k, d)}, (*acc)[${d}]);`)
        .join('\n')} }`,
  )
  .join('\n')}
}
`
}
