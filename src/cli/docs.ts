/** @file `npm run docs`: writes docs/methods.md from the registry, and docs/results.md with its charts from bench/results. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { readResults } from '../../bench/results_files.ts'
import { resultsPage } from '../../bench/results_page.ts'
import { methodsPage } from '../train/method_docs.ts'

const pages = new Map([['methods.md', methodsPage()], ...resultsPage(readResults())])
mkdirSync('docs/results', { recursive: true })
for (const [path, content] of pages) {
  writeFileSync(`docs/${path}`, content)
  process.stdout.write(`docs/${path}\n`)
}
