/**
 * @file `npm start`: installs the dependencies where needed, serves the studio on this machine only, and opens it in the browser; prints the URL where
 * there is no display. Ctrl-C ends it.
 */
import { spawn } from 'node:child_process'
import { ROOT, ensureDependencies, onPath, say } from './install.mjs'

if (process.argv.includes('--help')) {
  process.stdout.write(
    'usage: npm start [-- --no-open]\nServes the studio on http://127.0.0.1 (first free port from 5173 up) and opens it.\n',
  )
  process.exit(0)
}

/** The command that opens a URL in the person's browser, or null where nobody would see it. */
function opener() {
  if (process.argv.includes('--no-open') || process.env.CI || process.env.BROWSER === 'none') return null
  if (process.platform === 'darwin') return ['open']
  if (process.platform === 'win32') return ['cmd', '/c', 'start', '']
  const display = process.env.DISPLAY || process.env.WAYLAND_DISPLAY || process.env.WSL_DISTRO_NAME
  const program = display ? ['wslview', 'xdg-open'].find(onPath) : undefined
  return program ? [program] : null
}

try {
  ensureDependencies()
  const { createServer } = await import('vite')
  const server = await createServer({ root: ROOT, server: { host: '127.0.0.1', port: 5173, strictPort: false }, clearScreen: false })
  await server.listen()
  const url = server.resolvedUrls?.local[0] ?? `http://127.0.0.1:${server.config.server.port}/`
  const open = opener()
  if (open)
    spawn(open[0], [...open.slice(1), url], { stdio: 'ignore', detached: true })
      .on('error', () => {})
      .unref()
  process.stdout.write(`\n  Etude is at ${url}${open ? '' : '  (open it in Chrome or Edge)'}\n  Ctrl-C ends it.\n\n`)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => {
      process.stdout.write('\n')
      void Promise.race([server.close(), new Promise((done) => setTimeout(done, 2000))]).then(() => process.exit(0))
    })
  }
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
