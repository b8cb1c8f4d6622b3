/**
 * @file Runs a TypeScript entry of this repository in Node: `node scripts/run.mjs src/cli/tune.ts --help`.
 * Vite transforms the modules (so `import.meta.glob` and `?raw` work as in the browser) without a server port, a file watcher or a cache; packages of
 * node_modules are imported by Node itself. Everything after the entry is the program's `process.argv`. Prints nothing of its own on stdout.
 */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const entry = process.argv[2]

if (entry === undefined || !existsSync(resolve(root, entry))) {
  process.stderr.write(entry === undefined ? 'usage: node scripts/run.mjs <entry.ts> [arguments]\n' : `no such entry: ${entry}\n`)
  process.exit(2)
}
if (!existsSync(resolve(root, 'node_modules/vite'))) {
  process.stderr.write('The dependencies are not installed: run `npm ci` first.\n')
  process.exit(1)
}

const { createServer, createServerModuleRunner } = await import('vite')
const server = await createServer({
  root,
  configFile: false,
  envFile: false,
  publicDir: false,
  appType: 'custom',
  logLevel: 'silent',
  clearScreen: false,
  cacheDir: resolve(root, 'node_modules/.cache/run'),
  optimizeDeps: { noDiscovery: true, include: [] },
  server: { middlewareMode: true, watch: null, hmr: false, ws: false, preTransformRequests: false },
  ssr: { external: true },
})
const runner = createServerModuleRunner(server.environments.ssr, { hmr: false, sourcemapInterceptor: 'node' })

process.argv.splice(1, 2, resolve(root, entry))
// Closed only when nothing is left to do: an import() may come late.
process.once('beforeExit', () => void server.close())
try {
  await runner.import(resolve(root, entry))
} catch (error) {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  process.exitCode = 1
}
