/** @file `npm run docs`: writes docs/methods.md from the registry. */
import { writeFileSync } from 'node:fs'
import { methodsPage } from '../train/method_docs.ts'

writeFileSync('docs/methods.md', methodsPage())
process.stdout.write('docs/methods.md\n')
