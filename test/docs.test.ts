import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { methodsPage } from '../src/train/method_docs.ts'

test('docs/methods.md says what the registry says (npm run docs writes it)', () => {
  expect(readFileSync('docs/methods.md', 'utf8')).toBe(methodsPage())
})
