/**
 * @file The bench without a browser, on Dawn in Node: `npm run bench -- --node`. For machines whose GPU no browser can reach; peers that need a page
 * are left out. Arguments: the options as JSON, the file to write the result to, and SmolLM2's file where there is one.
 * On a software adapter in Node the main thread takes time from the adapter: use the page there.
 */
import { writeFileSync } from 'node:fs'
import { globals } from 'webgpu'
import { nodeGpu } from '../src/cli/gpu.ts'
import { openModel } from '../src/io/model_files.ts'
import { readPath } from '../src/io/node_source.ts'
import { installCounters } from './counters.ts'
import { type BenchOptions, runSuite } from './suite.ts'

const [options, file, model] = process.argv.slice(2)
if (!options || !file) throw new Error('usage: npm run bench -- --node')
Object.assign(globalThis, globals)
const gpu = await nodeGpu()
Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true })
installCounters()
const result = await runSuite(JSON.parse(options) as BenchOptions, {
  engines: ['etude', 'naive'],
  say: (line) => process.stderr.write(`[etude] ${line}\n`),
  smollm2: async () => (model ? openModel(await readPath(model)) : null),
})
writeFileSync(file, JSON.stringify(result))
process.exit(0)
