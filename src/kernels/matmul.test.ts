/** Which kernel a product gets. That each is right: src/autograd/ops. */
import { describe, expect, test } from 'vitest'
import type { MatrixUnit, TargetTraits } from '../gpu/kernel.ts'
import { chooseMatmul, matmulCandidates, type MatmulShape, tunedTo } from './matmul.ts'

const GPU: TargetTraits = { software: false, subgroup: 32, maxBindingSize: 2 ** 27 }
const shape: MatmulShape = {
  ...{ layout: 'nt', M: 1, N: 64, K: 64, plain: true, packed: false, aligned: true, vectors: true, segments: [] },
}

test('few rows are limited by memory, whatever tuning found for more of them', () => {
  const tuned: TargetTraits = { ...GPU, matmuls: { 'nt float some': { family: 'sgk', TM: 8, V: 1 } } }
  expect(chooseMatmul(tuned, shape).kernel.name).toBe('matmul_vec')
  expect(chooseMatmul(tuned, { ...shape, M: 64 }).kernel.name).toBe('matmul_sgk')
})

test('on software adapters a small product compiles quickly and a large one runs quickly', () => {
  const software: TargetTraits = { ...GPU, software: true, subgroup: 8 }
  const tile = (M: number, layout: 'nt' | 'nn', packed: boolean) =>
    chooseMatmul(software, { ...shape, layout, packed, plain: !packed, M, N: 576, K: 576 })
  expect(tile(32, 'nt', false)).toMatchObject({ kernel: { name: 'matmul_sgk' }, constants: { TM: 8, V: 4, SINGLE: 1 } })
  expect(tile(256, 'nt', false)).toMatchObject({ constants: { TM: 16, V: 4, SINGLE: 1 } })
  expect(tile(256, 'nn', false)).toMatchObject({ constants: { TM: 16, V: 1, SINGLE: 0 } })
  expect(tile(256, 'nn', true)).toMatchObject({ constants: { TM: 16, V: 2, SINGLE: 0 } })
  const four: TargetTraits = { ...software, subgroup: 4 }
  for (const [layout, V] of [
    ['nt', 4],
    ['nn', 1],
  ] as const)
    expect(chooseMatmul(four, { ...shape, layout, M: 256, N: 576, K: 576 })).toMatchObject({ constants: { TM: 32, V, SUBGROUP: 4 } })
})

describe('subgroup matrices', () => {
  const unit = (type: MatrixUnit['type'], size: number, lanes: number): MatrixUnit => ({ type, M: size, N: size, K: size, lanes })
  const fragments = (matrix: MatrixUnit | null) => matmulCandidates({ ...GPU, matrix }).filter((c) => c.family === 'matrix')

  test.each([unit('f32', 8, 32), unit('f16', 16, 32), unit('f16', 16, 64), unit('f16', 8, 8)])(
    '%j: some tiles, of 12 candidates at most',
    (m) => {
      expect(fragments(m).length).toBeGreaterThan(0)
      expect(matmulCandidates({ ...GPU, matrix: m }).length).toBeLessThanOrEqual(12)
    },
  )
  test('a unit that divides no tile, or none at all, brings no candidates', () => {
    expect([null, unit('f16', 16, 256)].map((m) => fragments(m).length)).toEqual([0, 0])
    expect(matmulCandidates(GPU)).toHaveLength(12)
  })
  test('are used where tuning found them and the product fills a tile', () => {
    const matrix = unit('f16', 16, 32)
    const [found] = fragments(matrix)
    const tuned: TargetTraits = { ...GPU, matrix, matmuls: { 'nt float some': found } }
    expect(chooseMatmul(tuned, { ...shape, M: 64 })).toMatchObject({ how: ['matrix_f16'], constants: { FM: 16, FK: 16, LANES: 32 } })
    expect(chooseMatmul(tuned, { ...shape, M: 16 })).toMatchObject({ how: [] })
    // Found with them, used without: what was stored outlives what is switched off.
    expect(chooseMatmul({ ...tuned, matrix: null }, { ...shape, M: 64 })).toMatchObject({ how: [] })
  })
})

test('subgroups of more than 16 lanes are not used where rows are read one element at a time: a block may be shorter', () => {
  const tuned = tunedTo({ family: 'sgk', TM: 8, V: 1 })
  const shape = { layout: 'nt', M: 300, N: 512, K: 512, plain: false, packed: true, aligned: true, segments: [] } as const
  const kernelOf = (subgroup: number, vectors: boolean): string =>
    chooseMatmul({ maxBindingSize: 2 ** 31 - 4, software: false, subgroup, matmuls: tuned }, { ...shape, vectors }).kernel.name
  expect(kernelOf(32, true)).toBe('matmul_sgk')
  expect(kernelOf(16, false)).toBe('matmul_sgk')
  expect(kernelOf(32, false)).not.toBe('matmul_sgk')
})
