/** What is made of what adapters say of subgroup matrices. */
import { expect, test } from 'vitest'
import { type MatrixAdapter, matrixUnit, SUBGROUP_MATRIX } from './matrix_unit.ts'

const config = (componentType: string, resultComponentType: string, M: number, N = M, K = M) => ({
  componentType,
  resultComponentType,
  M,
  N,
  K,
})
const adapter = (subgroupMatrixConfigs: ReturnType<typeof config>[], ...features: string[]): MatrixAdapter => ({
  features: new Set([SUBGROUP_MATRIX, 'subgroups', 'shader-f16', ...features]),
  info: { subgroupMaxSize: 32, subgroupMatrixConfigs },
})

test('f32 before f16, f32 sums alone, sizes that divide tiles', () => {
  const f16 = config('f16', 'f32', 16)
  expect(matrixUnit(adapter([config('f16', 'f16', 8), config('i8', 'i32', 8), f16, config('f32', 'f32', 8)]))).toEqual({
    ...{ type: 'f32', M: 8, N: 8, K: 8, lanes: 32 },
  })
  expect(matrixUnit(adapter([config('f16', 'f16', 8), config('f16', 'f32', 16, 16, 32), f16]))).toEqual({
    ...{ type: 'f16', M: 16, N: 16, K: 16, lanes: 32 },
  })
  expect(matrixUnit(adapter([config('i8', 'i32', 16)]))).toBeNull()
})

test('without the feature, or without f16 for f16, there are none', () => {
  const [some] = [adapter([config('f16', 'f32', 16)])]
  expect(matrixUnit({ ...some, features: new Set(['subgroups', 'shader-f16']) })).toBeNull()
  expect(matrixUnit({ ...some, features: new Set([SUBGROUP_MATRIX, 'subgroups']) })).toBeNull()
  expect(matrixUnit({ features: new Set([SUBGROUP_MATRIX, 'subgroups']), info: {} })).toBeNull()
})
