/** @file Both gradients of LoRA's factors in one dispatch, for one site or two. See shaders/low_rank_grad.wesl. */
import { ceilDiv, defineKernel, range } from '../gpu/kernel.ts'

interface Sum {
  /** Name of the function, and the buffers it reads. */
  readonly name: string
  readonly left: string
  readonly right: string
  /** Columns of out run along ranks (dB), not along the right operand's columns (dA). */
  readonly transposed: boolean
}

/** out[..] += Σ_m left[m, l_off + ranks]ᵀ right[m, columns]. */
function sum({ name, left, right, transposed }: Sum, c: Constants, accumulate: boolean): string {
  const { COLUMNS, LANES, BLOCK } = c
  const { SUBGROUP = 0 } = c as { SUBGROUP?: number }
  const blocks = range(BLOCK)
  const shared = SUBGROUP === COLUMNS && LANES === 1
  const add = (l: (b: number) => string, w: string): string =>
    blocks.flatMap((b) => range(4).map((i) => `acc${b}_${i} = fma(vec4f(${l(b)}[${i}]), ${w}, acc${b}_${i});`)).join(' ')
  // One subgroup: a lane loads the left operand of its own row, and hands it round.
  const broadcast = `for (var m0 = 0u; m0 < params.rows; m0 += ${SUBGROUP}u) {
    let mine = m0 + lane;
    ${blocks.map((b) => `let l${b} = select(vec4f(0.0), ${left}[min(mine, last) * l_width + l_off + j + ${b}u], mine <= last);`).join(' ')}
    ${range(SUBGROUP)
      .map(
        (k) =>
          `{ let w = ${right}[min(m0 + ${k}u, last) * r_width + column]; ${blocks.map((b) => `let s${b} = subgroupBroadcast(l${b}, ${k}u);`).join(' ')} ${add((b) => `s${b}`, 'w')} }`,
      )
      .join('\n    ')}
  }`
  const split = `for (var m = part; m < params.rows; m += ${LANES}u) {
    ${blocks.map((b) => `let l${b} = ${left}[m * l_width + l_off + j + ${b}u];`).join(' ')}
    let w = ${right}[m * r_width + column];
    ${add((b) => `l${b}`, 'w')}
  }
  ${blocks.flatMap((b) => range(4).map((i) => `acc${b}_${i} = lanes_sum(acc${b}_${i}, lane, part);`)).join('\n  ')}`
  const put = (at: string, v: string): string => (accumulate ? `{ let o = ${at}; out[o] += ${v}; }` : `out[${at}] = ${v};`)
  return `fn ${name}(base: u32, at: u32, from_n: u32, to_n: u32, j: u32, ranks: u32, l_width: u32, l_off: u32, r_width: u32, out_off: u32, lane: u32, part: u32) {
  if (from_n + base >= to_n || j >= ranks) { return; }
  let last = params.rows - 1u;
  let column = min(from_n + base + at, to_n - 1u);
  ${blocks.flatMap((b) => range(4).map((i) => `var acc${b}_${i} = vec4f(0.0);`)).join(' ')}
  ${shared ? broadcast : split}
  if (part > 0u || from_n + base + at >= to_n) { return; }
  ${blocks
    .flatMap((b) =>
      range(4).map((i) =>
        transposed
          ? put(
              `out_off + (column * 4u + ${i}u) * ranks + j + ${b}u`,
              `vec4f(${range(4)
                .map((k) => `acc${b}_${k}[${i}]`)
                .join(', ')})`,
            )
          : put(`out_off + ((j + ${b}u) * 4u + ${i}u) * r_width + column`, `acc${b}_${i}`),
      ),
    )
    .join('\n  ')}
}`
}

type Constants = Readonly<Record<'COLUMNS' | 'LANES' | 'BLOCK' | 'MEMBERS0' | 'MEMBERS1', number>>

function generate(c: Constants, flags: ReadonlySet<string>): string {
  const { COLUMNS, LANES, MEMBERS0 } = c
  const sites = flags.has('two') ? [0, 1] : [0]
  const functions = sites.flatMap((i) => [
    sum({ name: `da${i}`, left: `u${i}`, right: `x${i}`, transposed: false }, c, flags.has('accumulate')),
    sum({ name: `db${i}`, left: `h${i}`, right: `d${i}`, transposed: true }, c, flags.has('accumulate')),
  ])
  const site = (i: number): string => `if (z == 0u) {
      da${i}(base, column, 0u, params.x_width${i}, j, params.ranks${i}, params.ranks${i}, 0u, params.x_width${i}, params.a_off${i}, lane, part);
    } else {
      let n = member(z - 1u, params.first${i}, params.second${i}, params.d_width${i});
      db${i}(base, column, n.x, n.y, j, params.stride${i}, params.ranks${i}, (z - 1u) * params.stride${i}, params.d_width${i}, params.b_off${i}, lane, part);
    }`
  return `${LANES > 1 ? laneSum(COLUMNS, LANES) : ''}
${functions.join('\n')}
@compute @workgroup_size(${COLUMNS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * COLUMNS;
  let column = lane % COLUMNS;
  let part = lane / COLUMNS;
  let j = group.y * BLOCK;
  var z = group.z;
  ${flags.has('two') ? `if (z < ${1 + MEMBERS0}u) { ${site(0)} } else { z -= ${1 + MEMBERS0}u; ${site(1)} }` : site(0)}
}`
}
/** Sum over the parts of one column, in a fixed tree. */
const laneSum = (columns: number, lanes: number): string => `var<workgroup> partial: array<vec4f, ${columns * lanes}>;
fn lanes_sum(value: vec4f, lane: u32, part: u32) -> vec4f {
  partial[lane] = value;
  workgroupBarrier();
  for (var width = ${lanes / 2}u; width > 0u; width >>= 1u) {
    if (part < width) { partial[lane] += partial[lane + width * COLUMNS]; }
    workgroupBarrier();
  }
  let result = partial[lane];
  workgroupBarrier();
  return result;
}`

const site = <I extends 0 | 1>(i: I) =>
  ({
    [`ranks${i}`]: 'u32',
    [`stride${i}`]: 'u32',
    [`x_width${i}`]: 'u32',
    [`d_width${i}`]: 'u32',
    [`a_off${i}`]: 'u32',
    [`b_off${i}`]: 'u32',
    [`first${i}`]: 'u32',
    [`second${i}`]: 'u32',
  }) as Record<`${'ranks' | 'stride' | 'x_width' | 'd_width' | 'a_off' | 'b_off' | 'first' | 'second'}${I}`, 'u32'>
const second = { access: 'read', when: ['two'] } as const

/** u, h: [rows, 4 ranks]; x: [rows, 4 x_width]; d: [rows, 4 d_width]. dA [4 ranks, 4 x_width] at a_off and dB [4 d_width, 4 stride] at b_off of `out`
 * (offsets in vec4s). Members of a fused site begin at columns 0, first, second of d (vec4s; 0xffffffff: none), each with its own 4 stride ranks.
 * Flags: `two` a second site; `accumulate`. */
export const lowRankGradKernel = defineKernel({
  name: 'low_rank_grad',
  bindings: { u0: 'read', x0: 'read', h0: 'read', d0: 'read', u1: second, x1: second, h1: second, d1: second, out: 'write' },
  uniforms: { rows: 'u32', ...site(0), ...site(1) },
  flags: ['two', 'accumulate'],
  variants: [[], ['accumulate'], ['two', 'accumulate']],
  constants: { COLUMNS: 16, LANES: 16, BLOCK: 1, MEMBERS0: 1, MEMBERS1: 0 },
  subgroups: 'optional',
  generate,
  grid: (p, { COLUMNS, BLOCK, MEMBERS0, MEMBERS1 }) => {
    if (p.rows === 0) return [0]
    const widest = Math.max(p.x_width0, p.d_width0, MEMBERS1 > 0 ? Math.max(p.x_width1, p.d_width1) : 0)
    const ranks = Math.max(p.ranks0, MEMBERS1 > 0 ? p.ranks1 : 0)
    return [ceilDiv(widest, COLUMNS), ceilDiv(ranks, BLOCK), 1 + MEMBERS0 + (MEMBERS1 > 0 ? 1 + MEMBERS1 : 0)]
  },
})
