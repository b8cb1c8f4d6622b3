/** @file Which subgroup matrices an adapter has. Not yet in the specification (https://github.com/gpuweb/gpuweb/issues/4195): Chrome has them behind a flag. */
import type { MatrixUnit } from './kernel.ts'

export const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix'

/** Entry of `GPUAdapterInfo.subgroupMatrixConfigs` (dawn/docs/dawn/features/subgroup_matrix.md). */
interface SubgroupMatrixConfig {
  readonly componentType: string
  readonly resultComponentType: string
  readonly M: number
  readonly N: number
  readonly K: number
}
export interface MatrixAdapter {
  readonly features: ReadonlySet<string>
  readonly info: { readonly subgroupMaxSize?: number; readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> }
}

/** The first unit of f32, else of f16, that adds up in f32 and whose sizes divide 16; null: there is none. */
export function matrixUnit({ features, info }: MatrixAdapter): MatrixUnit | null {
  if (!features.has(SUBGROUP_MATRIX) || !features.has('subgroups')) return null
  const { subgroupMaxSize: lanes = 0, subgroupMatrixConfigs = [] } = info
  const usable = [...subgroupMatrixConfigs].filter((c) => c.resultComponentType === 'f32' && [c.M, c.N, c.K].every((n) => 16 % n === 0))
  const units = (type: MatrixUnit['type']): MatrixUnit[] =>
    usable.filter((c) => c.componentType === type).map(({ M, N, K }) => ({ type, M, N, K, lanes }))
  return [...units('f32'), ...(features.has('shader-f16') ? units('f16') : [])][0] ?? null
}
