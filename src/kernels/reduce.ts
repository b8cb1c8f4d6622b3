/** @file WGSL of reductions over the lanes of one workgroup, generated because the best form depends on the subgroup size.
 *
 * A workgroup that is one subgroup (what `rowGroup` chooses on software adapters) needs neither workgroup memory nor barriers; any other
 * uses a binary tree, whose result is the same on every device. Every lane of the workgroup must call, and each gets the result.
 * The shader holds `// @generated` between its declarations and says `@if(subgroups) enable subgroups;`. */

const REDUCTIONS = {
  row_sum: { type: 'f32', builtin: 'subgroupAdd', join: (a: string, b: string) => `${a} + ${b}` },
  row_sum2: { type: 'vec2f', builtin: 'subgroupAdd', join: (a: string, b: string) => `${a} + ${b}` },
  row_sum4: { type: 'vec4f', builtin: 'subgroupAdd', join: (a: string, b: string) => `${a} + ${b}` },
  row_max: { type: 'f32', builtin: 'subgroupMax', join: (a: string, b: string) => `max(${a}, ${b})` },
  row_max4: { type: 'vec4f', builtin: 'subgroupMax', join: (a: string, b: string) => `max(${a}, ${b})` },
} as const

/** One of them alone. */
export function reduction(name: keyof typeof REDUCTIONS, workgroup: number, subgroup: number): string {
  const { type, builtin, join } = REDUCTIONS[name]
  const head = `fn ${name}(value: ${type}, lane: u32) -> ${type}`
  if (subgroup >= workgroup) return `${head} { return ${builtin}(value); }`
  const lanes = `${name}_lanes`
  return `var<workgroup> ${lanes}: array<${type}, ${workgroup}>;
${head} {
  ${lanes}[lane] = value;
  workgroupBarrier();
  for (var width = ${workgroup / 2}u; width > 0u; width >>= 1u) {
    if (lane < width) { ${lanes}[lane] = ${join(`${lanes}[lane]`, `${lanes}[lane + width]`)}; }
    workgroupBarrier();
  }
  let result = ${lanes}[0];
  workgroupBarrier();
  return result;
}`
}

/** `generate` of kernels that reduce: defines the named functions, (value, lane) → reduced value. WORKGROUP is a power of two. */
export const rowReductions =
  (...names: (keyof typeof REDUCTIONS)[]) =>
  (constants: { readonly WORKGROUP: number }): string => {
    const { SUBGROUP = 0 } = constants as { SUBGROUP?: number }
    return names.map((name) => reduction(name, constants.WORKGROUP, SUBGROUP)).join('\n')
  }
