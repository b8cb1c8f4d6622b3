/** @file The shader sources under shaders/, linked to WGSL on demand. The only module that imports the linker. */
import { link, RecordResolver } from 'wesl'
import type { Variant } from './kernel.ts'

const files = import.meta.glob<string>('/shaders/**/*.wesl', { query: '?raw', import: 'default', eager: true })
const sources = Object.fromEntries(Object.entries(files).map(([path, text]) => [path.replace('/shaders/', ''), text]))

/** Parsed once: a link then costs 2 ms, not 9. */
const resolver = new RecordResolver(sources)

/** Every dispatchable shader: files of shaders/ that are not in lib/. */
export const shaderNames: readonly string[] = Object.keys(sources)
  .filter((p) => !p.startsWith('lib/'))
  .map((p) => p.replace('.wesl', ''))

/** The linker does not know everything that compilers do: what it does not is declared in a line that ends so, which is taken out again. */
const KNOWN = /^.*\/\/ the compiler's own$/gm
const PARAMS = '@group(1) @binding(0) var<uniform> params'

/** WGSL of a kernel variant. `subgroups`: whether the device has them; `subgroupSize` becomes `constants::SUBGROUP`; `immediates`: params are given with each
 * dispatch, not by a buffer (https://www.w3.org/TR/WGSL/#address-spaces-immediate; the linker does not know them yet). */
export async function linkVariant(
  { kernel, flags, constants, apply }: Variant,
  subgroups: boolean,
  subgroupSize: number,
  immediates = false,
): Promise<string> {
  const virtual: Record<string, () => string> = {}
  // Unrolled text goes where the shader says so; only such a kernel needs its own parse.
  const file = `${kernel.name}.wesl`
  const generated = kernel.generate?.({ ...constants, SUBGROUP: subgroupSize }, new Set(flags))
  const from =
    generated === undefined ? resolver : new RecordResolver({ ...sources, [file]: sources[file].replace('// @generated', generated) })
  if (apply !== undefined) {
    const body = kernel.applies?.[apply]
    if (body === undefined) throw new Error(`${kernel.name} has no expression "${apply}"`)
    virtual.op = () => `fn apply(x: f32, y: f32, alpha: f32) -> f32 { return ${body}; }`
  }
  const linked = await link({
    resolver: from,
    rootModuleName: kernel.name,
    conditions: {
      subgroups: subgroups && kernel.subgroups !== undefined,
      ...Object.fromEntries((kernel.flags ?? []).map((f) => [f, flags.includes(f)])),
    },
    // A bare number would be an AbstractInt; these are all sizes, so say so in WGSL.
    constants: Object.fromEntries(Object.entries({ ...constants, SUBGROUP: subgroupSize }).map(([k, v]) => [k, `${v}u`])),
    ...(Object.keys(virtual).length > 0 && { virtualLibs: virtual }),
  })
  const wgsl = linked.dest.replace(KNOWN, '')
  if (!immediates) return wgsl
  if (!wgsl.includes(PARAMS)) throw new Error(`${kernel.name} has no ${PARAMS}`)
  return wgsl.replace(PARAMS, 'var<immediate> params')
}
