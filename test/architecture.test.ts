/** @file Which layer may import which. The table is the architecture; a breach names the file and what it imported. */
import { expect, test } from 'vitest'

const ENGINE = ['gpu', 'kernels', 'tensor', 'autograd', 'nn', 'models'] as const
const ACTORS = ['peft', 'objectives', 'estimators', 'selectors', 'optim']
/** The layers below models, in order: each may import all before it. */
const below = (layer: (typeof ENGINE)[number]) => ENGINE.slice(0, ENGINE.indexOf(layer))

/** Layer → what its files may import besides itself, options and errors: whole layers, or single files ('layer/file.ts', `*` = any name). */
const MAY_IMPORT: Record<string, readonly string[]> = {
  errors: [],
  options: [],
  ...Object.fromEntries(ENGINE.map((layer) => [layer, below(layer)])),
  ...Object.fromEntries(ACTORS.map((layer) => [layer, ['tensor', 'autograd', 'nn']])),
  io: [],
  data: ['io'],
  merge: ['io', 'tensor'],
  train: [...ENGINE, ...ACTORS, 'io', 'data', 'merge'],
  worker: [...ENGINE, ...ACTORS, 'io', 'data', 'merge', 'train'],
  cli: [...ENGINE, ...ACTORS, 'io', 'data', 'merge', 'train'],
  ui: ['data', 'io', 'worker/protocol.ts', 'worker/client.ts', 'worker/engine.worker.ts', 'train/run_config.ts', '*/registry.ts'],
}

/** Layer of 'src/gpu/device.ts' is gpu, of 'src/options.ts' options. */
const layerOf = (path: string): string => path.split('/')[1].replace(/\.tsx?$/, '')
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)'([^']+)'/g

/** What is wrong with a source file, a line each. `path` starts with 'src/'. */
function breaches(path: string, source: string): string[] {
  const found: string[] = []
  const own = layerOf(path)
  if (!(own in MAY_IMPORT)) found.push(`${path}: the layer ${own} is not in the table`)
  if (/^export default\b|\bas default\b/m.test(source)) found.push(`${path}: default export`)
  if (/^export \* from/m.test(source)) found.push(`${path}: re-exports a whole file`)
  for (const [, spec] of source.matchAll(IMPORT)) {
    if (/^wesl(\/|$)/.test(spec) && path !== 'src/gpu/shaders.ts') found.push(`${path}: only src/gpu/shaders.ts may import wesl`)
    if (!spec.startsWith('.')) continue
    if (!/\.(tsx?|mjs|css|json|svg|wesl|wgsl)(\?\w+)?$/.test(spec)) found.push(`${path}: '${spec}' carries no extension`)
    const target = new URL(spec, `file:///${path}`).pathname.slice(1)
    const to = layerOf(target)
    const file = target.slice('src/'.length)
    const allowed = [own, 'options', 'errors', ...(MAY_IMPORT[own] ?? [])]
    const may = allowed.some((rule) => rule === to || rule === file || (rule.startsWith('*/') && file.endsWith(rule.slice(1))))
    if (target.startsWith('src/') && !may) found.push(`${path}: ${own} may not import ${file}`)
  }
  return found
}

const sources = import.meta.glob<string>(['/src/**/*.{ts,tsx}', '!/src/**/*.test.{ts,tsx}', '!/src/**/*.d.ts'], {
  query: '?raw',
  import: 'default',
  eager: true,
})

test.each(Object.keys(sources))('%s keeps to its layer', (path) => {
  expect(breaches(path.slice(1), sources[path])).toEqual([])
})

test.each([
  ['src/gpu/device.ts', "import { x } from '../kernels/matmul.ts'", 'gpu may not import kernels/matmul.ts'],
  ['src/peft/lora.ts', "import type { D } from '../gpu/device.ts'", 'peft may not import gpu/device.ts'],
  ['src/train/trainer.ts', "const w = new URL('../ui/App.tsx', import.meta.url)", 'train may not import ui/App.tsx'],
  ['src/ui/App.tsx', "const t = await import('../train/trainer.ts')", 'ui may not import train/trainer.ts'],
  ['src/nn/linear.ts', "import { link } from 'wesl'", 'may import wesl'],
  ['src/nn/linear.ts', "import { matmul } from '../autograd/ops/matmul'", 'carries no extension'],
  ['src/nn/linear.ts', 'export default 1', 'default export'],
  ['src/misc/a.ts', '', 'not in the table'],
])('a breach is caught: %s with %s', (path, source, complaint) => {
  expect(breaches(path, source).join('\n')).toContain(complaint)
})

test('what the table allows passes', () => {
  const source =
    "import { a } from '../gpu/device.ts'\nimport { EtudeError } from '../errors.ts'\nexport { b } from './other.ts'\nimport 'react'"
  expect(breaches('src/kernels/matmul.ts', source)).toEqual([])
  expect(breaches('src/ui/App.tsx', "import { METHODS } from '../peft/registry.ts'\nimport './app.css'")).toEqual([])
})
