import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readResults } from '../bench/results_files.ts'
import { resultsPage } from '../bench/results_page.ts'
import { methodsPage } from '../src/train/method_docs.ts'

test('docs/methods.md says what the registry says (npm run docs writes it)', () => {
  expect(readFileSync('docs/methods.md', 'utf8')).toBe(methodsPage())
})

test('docs/results.md and its charts say what bench/results says (npm run docs writes them)', () => {
  const page = resultsPage(readResults())
  for (const [path, content] of page) expect(existsSync(`docs/${path}`) && readFileSync(`docs/${path}`, 'utf8'), path).toBe(content)
  const charts = readdirSync('docs/results').map((name) => `results/${name}`)
  expect(
    charts.filter((c) => !page.has(c)),
    'charts of no results',
  ).toEqual([])
})
