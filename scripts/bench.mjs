/**
 * @file `npm run bench`: serves bench/index.html, opens it in Chromium, runs every engine there in the same page and prints the tables. Uses the GPU where
 * there is one, otherwise a Chromium on lavapipe, otherwise SwiftShader.
 */
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ROOT, ensureBrowser, ensureDependencies, ensureVulkan, probeAdapter, say } from './install.mjs'

const USAGE = `usage: npm run bench [-- options]
  --only step|matmul   only the training steps, or only the matmul shapes
  --rounds <n>         measured rounds in which the engines take turns, 5 or more (default 7)
  --engines <a,b>      only these engines
  --adapter <which>    gpu, lavapipe or swiftshader (default: the first of them that is there)
  --json <file>        also write the result as JSON
  --help               this text
`

/** The checked command line; exits with 2 where it cannot be read. */
function readOptions() {
  const text = { type: 'string' }
  try {
    const { values } = parseArgs({
      options: { only: text, rounds: text, engines: text, adapter: text, json: text, help: { type: 'boolean' } },
    })
    if (values.help) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    const rounds = Number(values.rounds ?? 7)
    if (!Number.isInteger(rounds) || rounds < 5) throw new Error(`--rounds wants a whole number of 5 or more, not ${values.rounds}`)
    if (values.only && !['step', 'matmul'].includes(values.only)) throw new Error(`--only wants step or matmul, not ${values.only}`)
    if (values.adapter && !['gpu', 'lavapipe', 'swiftshader'].includes(values.adapter))
      throw new Error(`--adapter: unknown ${values.adapter}`)
    return { ...values, rounds, engines: values.engines?.split(',') }
  } catch (error) {
    process.stderr.write(`${error.message}\n${USAGE}`)
    process.exit(2)
  }
}

/** Browser, its arguments and a name for the adapter that they give. */
async function chooseAdapter(wanted) {
  const browser = ensureBrowser()
  const common = [
    '--no-sandbox',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--enable-unsafe-webgpu',
  ]
  const vulkan = wanted === 'swiftshader' ? { name: 'swiftshader' } : ensureVulkan(browser)
  if (wanted !== 'lavapipe' && vulkan.name === 'gpu') {
    return {
      browser,
      args: [...common, ...(process.platform === 'linux' ? ['--enable-features=Vulkan', '--ignore-gpu-blocklist'] : [])],
      name: null,
    }
  }
  const software = [...common, '--use-webgpu-adapter=swiftshader']
  if (wanted !== 'swiftshader') {
    const { ensureChromiumOnLavapipe } = await import('../bench/chromium_lvp.mjs')
    const lavapipe = ensureChromiumOnLavapipe(browser)
    if (lavapipe) return { browser: lavapipe, args: software, name: probeAdapter(vulkan.icd)?.description ?? 'lavapipe' }
  }
  return { browser, args: software, name: 'SwiftShader' }
}

async function serve() {
  const { createServer } = await import('vite')
  const server = await createServer({
    root: ROOT,
    configFile: false,
    logLevel: 'error',
    cacheDir: resolve(ROOT, 'node_modules/.cache/bench'),
    optimizeDeps: {
      noDiscovery: true,
      include: ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu', '@jax-js/jax', 'wesl'],
      exclude: ['onnxruntime-web'],
    },
    // Isolated pages have finer clocks.
    server: {
      host: '127.0.0.1',
      port: 5400,
      hmr: false,
      watch: null,
      headers: { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' },
    },
  })
  await server.listen()
  return server
}

const bytes = (n) => (n === null ? '' : `${(n / 1e6).toFixed(1)} MB`)
const count = (n) => (n === null ? '' : String(n))

/** Rows as a Markdown table; an engine's speed-up is over the fastest peer of its case. */
function table(rows) {
  const steps = rows.filter((r) => r.case.endsWith('-step'))
  const rates = rows.filter((r) => !r.case.endsWith('-step'))
  const line = (cells) => `| ${cells.join(' | ')} |`
  const render = (head, body) => [line(head), line(head.map(() => '---')), ...body.map(line)].join('\n')
  const parts = []
  if (steps.length > 0) {
    const head = ['case', 'engine', 'ms', 'tokens/s', 'dispatches', 'submits', 'planned', 'allocated', 'first loss']
    parts.push(
      render(
        head,
        steps.map((r) => [
          r.case,
          r.engine,
          r.ms.toFixed(1),
          r.tokens_per_s.toFixed(0),
          count(r.dispatches),
          count(r.submits),
          bytes(r.planned_bytes),
          bytes(r.allocated_bytes),
          r.first_loss.toFixed(5),
        ]),
      ),
    )
    parts.push(comparisons(steps).join('\n'))
  }
  if (rates.length > 0) {
    const body = rates.map((r) => [
      r.case,
      r.engine,
      r.ms.toFixed(3),
      r.gflops?.toFixed(1) ?? '',
      r.gb_per_s?.toFixed(1) ?? '',
      r.percent_of_peak ? `${r.percent_of_peak.toFixed(0)} %` : '',
    ])
    parts.push(render(['case', 'engine', 'ms', 'GFLOP/s', 'GB/s', 'of peak'], body))
  }
  return parts.join('\n\n')
}

/** Etude against the faster peer in each case, and each engine's LoRA step against its full step. */
function comparisons(steps) {
  const ms = (name, engine) => steps.find((r) => r.case === name && r.engine === engine)?.ms
  const lines = []
  for (const name of new Set(steps.map((r) => r.case))) {
    const peers = steps.filter((r) => r.case === name && r.engine !== 'etude')
    const fastest = peers.toSorted((a, b) => a.ms - b.ms)[0]
    if (fastest && ms(name, 'etude'))
      lines.push(`${name}: etude is ${(fastest.ms / ms(name, 'etude')).toFixed(2)} times as fast as ${fastest.engine}.`)
  }
  for (const engine of new Set(steps.map((r) => r.engine))) {
    const ratio = ms('lora-step', engine) / ms('full-step', engine)
    if (ratio) lines.push(`${engine}: LoRA step / full step = ${ratio.toFixed(2)}.`)
  }
  return lines
}

const options = readOptions()
try {
  ensureDependencies()
  const { chromium } = await import('@playwright/test')
  const adapter = await chooseAdapter(options.adapter)
  const server = await serve()
  const browser = await chromium.launch({
    executablePath: adapter.browser,
    args: adapter.args,
    env: { XDG_RUNTIME_DIR: '/tmp', ...process.env },
  })
  try {
    const page = await browser.newPage()
    page.on('pageerror', (error) => say(`page: ${error.message}`))
    page.on('console', (message) => message.type() === 'error' && say(`page: ${message.text()}`))
    await page.exposeFunction('benchSay', say)
    await page.goto(`http://127.0.0.1:${server.config.server.port}/bench/index.html`)
    await page.waitForFunction(() => 'runBench' in window, null, { timeout: 120_000 })
    const {
      rows,
      problems,
      adapter: found,
    } = await page.evaluate((o) => window.runBench(o), { only: options.only, rounds: options.rounds, engines: options.engines })
    const machine = `${cpus()[0]?.model.trim() ?? process.arch}, ${cpus().length} threads, ${process.platform} ${process.arch}`
    const report = { machine, adapter: adapter.name ?? found, rows }
    process.stdout.write(
      `Machine: ${report.machine}\nAdapter: ${report.adapter}\nBrowser: Chromium ${browser.version()}\n\n${table(rows)}\n`,
    )
    for (const problem of problems) say(`PROBLEM: ${problem}`)
    if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`)
    process.exitCode = problems.length > 0 ? 1 : 0
  } finally {
    await browser.close()
    await server.close()
  }
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
