/** Which kernel a product gets. That each is right: src/autograd/ops. */
import { expect, test } from 'vitest'
import type { TargetTraits } from '../gpu/kernel.ts'
import { chooseMatmul, type MatmulShape } from './matmul.ts'

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
})
