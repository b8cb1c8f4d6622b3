/**
 * @file `npm run bench`: serves bench/index.html, opens it in Chromium, runs every engine there in the same page and prints the tables. Uses the GPU where
 * there is one, otherwise a Chromium on lavapipe, otherwise SwiftShader. With --node it runs in Node instead.
 */
import { spawnSync } from 'node:child_process'
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { benchTables } from './bench_table.mjs'
import { ROOT, ensureBrowser, ensureDependencies, ensureVulkan, findLavapipe, findSwiftShader, probeAdapter, say } from './install.mjs'
import { provenance } from './provenance.mjs'

const PARTS = [
  'step',
  'forward',
  'matmul',
  'adamw',
  'attention',
  'norm',
  'cross-entropy',
  'smollm2',
  'sweep',
  'memory',
  'generate',
  'smollm2-lora-1x128',
  'smollm2-lora-1x256',
  'smollm2-lora-4x256',
  'smollm2-lora-1x4096',
]
/** Packages that are measured in the page. */
const PEERS = ['@tensorflow/tfjs', '@jax-js/jax', 'onnxruntime-web']
/** As in bench/engines.ts; in Node, those of bench/node.ts. */
const ENGINES = { page: ['etude', 'naive', 'tfjs', 'jax-js', 'onnxruntime-web'], node: ['etude', 'naive'] }
const SMOLLM2 = resolve(ROOT, '../shared/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf')

const USAGE = `usage: npm run bench [-- options]
  --only <part,part>   step (the bench model, beside the peers), forward (its forward pass, also of peers that cannot train), matmul, adamw, attention, norm, cross-entropy, smollm2 (SmolLM2-135M), sweep (cost by length, batch and rank), memory (planned and allocated),
                       generate (SmolLM2-135M: prefill and decode), one of SmolLM2's cases by its name, or smollm2-lora-1x4096 (minutes on a software adapter; only where it is asked for). Default: all else
  --all                every part, smollm2-lora-1x4096 too
  --rounds <n>         measured rounds in which the engines take turns, 5 or more (default 7)
  --engines <a,b>      only these of etude, naive, tfjs, jax-js and onnxruntime-web (with --node: of etude and naive)
  --node               without a browser, on Dawn in Node: for a GPU that no browser can reach. Peers are left out
  --model <file.gguf>  SmolLM2-135M's weights (default: those beside the checkout, or random ones of its shapes)
  --adapter <which>    gpu, lavapipe or swiftshader (default: the first of them that is there)
  --json <file>        also write the result as JSON
  --help               this text
`

/** The checked command line; exits with 2 where it cannot be read. */
function readOptions() {
  const text = { type: 'string' }
  try {
    const { values } = parseArgs({
      options: {
        only: text,
        all: { type: 'boolean' },
        rounds: text,
        engines: text,
        adapter: text,
        json: text,
        model: text,
        node: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    })
    if (values.help) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    const rounds = Number(values.rounds ?? 7)
    if (!Number.isInteger(rounds) || rounds < 5) throw new Error(`--rounds wants a whole number of 5 or more, not ${values.rounds}`)
    if (values.all && values.only) throw new Error('--all and --only exclude each other')
    const only = values.all ? PARTS : values.only?.split(',')
    const unknown = only?.find((part) => !PARTS.includes(part))
    if (unknown !== undefined) throw new Error(`--only wants some of ${PARTS.join(', ')}, not ${unknown}`)
    const engines = values.engines?.split(',')
    const here = values.node ? ENGINES.node : ENGINES.page
    const stranger = engines?.find((engine) => !here.includes(engine))
    if (stranger !== undefined)
      throw new Error(`--engines${values.node ? ' with --node' : ''} wants some of ${here.join(', ')}, not ${stranger}`)
    if (values.model && !existsSync(values.model)) throw new Error(`--model: there is no ${values.model}`)
    if (values.adapter && !['gpu', 'lavapipe', 'swiftshader'].includes(values.adapter))
      throw new Error(`--adapter: unknown ${values.adapter}`)
    const model = values.model ? resolve(values.model) : existsSync(SMOLLM2) ? SMOLLM2 : null
    return { ...values, only, rounds, model, engines }
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

/** Hands the page SmolLM2's file; the page itself asks nobody else for anything. */
const modelPlugin = (file) => ({
  name: 'etude:bench-model',
  configureServer: ({ middlewares }) => {
    middlewares.use('/bench-model/smollm2.gguf', (_, response) => {
      if (!file) {
        response.statusCode = 404
        response.end()
        return
      }
      response.setHeader('Content-Type', 'application/octet-stream')
      response.setHeader('Content-Length', statSync(file).size)
      response.setHeader('X-File-Name', basename(file))
      createReadStream(file).pipe(response)
    })
  },
})

async function serve(model) {
  const { createServer } = await import('vite')
  const server = await createServer({
    root: ROOT,
    configFile: false,
    logLevel: 'error',
    plugins: [modelPlugin(model)],
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

/** The result of bench/main.ts in Chromium, with what it ran on. */
async function runInPage({ only, rounds, engines, adapter: wanted, model }) {
  const { chromium } = await import('@playwright/test')
  const adapter = await chooseAdapter(wanted)
  const server = await serve(model)
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
    const result = await page.evaluate((o) => window.runBench(o), { only, rounds, engines })
    return { ...result, adapter: adapter.name ?? result.adapter, host: `Chromium ${browser.version()}` }
  } finally {
    await browser.close()
    await server.close()
  }
}

/** The result of bench/node.ts. */
function runInNode({ only, rounds, engines, adapter, model }) {
  const folder = mkdtempSync(join(tmpdir(), 'etude-bench-'))
  const file = join(folder, 'result.json')
  const wanted = adapter ?? 'gpu'
  const icd = wanted === 'gpu' ? ensureVulkan().icd : wanted === 'lavapipe' ? findLavapipe() : findSwiftShader()
  try {
    const args = ['scripts/run.mjs', 'bench/node.ts', JSON.stringify({ only, rounds, engines }), file, ...(model ? [model] : [])]
    const { status } = spawnSync(process.execPath, args, {
      cwd: ROOT,
      stdio: ['ignore', 2, 2],
      env: { ...process.env, ...(icd ? { VK_ICD_FILENAMES: icd } : {}) },
    })
    if (status !== 0) throw new Error('the bench in Node failed: see its output above')
    return { ...JSON.parse(readFileSync(file, 'utf8')), host: `Node ${process.version}, Dawn` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const options = readOptions()
try {
  ensureDependencies()
  const { rows, problems, adapter, host } = await (options.node ? runInNode(options) : runInPage(options))
  const machine = `${cpus()[0]?.model.trim() ?? process.arch}, ${cpus().length} threads, ${process.platform} ${process.arch}`
  process.stdout.write(`Machine: ${machine}\nAdapter: ${adapter}\nHost: ${host}\n\n${benchTables(rows)}\n`)
  for (const problem of problems) say(`PROBLEM: ${problem}`)
  if (options.json) {
    const report = { machine, adapter, host, ...provenance(options.node ? ['webgpu'] : PEERS), rounds: options.rounds, problems, rows }
    writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`)
  }
  process.exitCode = problems.length > 0 ? 1 : 0
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
