/**
 * @file `npm test`: installs what the tests need, then runs every stage, shows its output as it comes, and ends with one plain line
 * `N passed, N failed` (`, N skipped` where some were). A stage that counts nothing itself is one check; one that ends badly, hangs or leaves no
 * report has failed, whatever it counted. Exit code 0 only when nothing failed.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT, ensureBrowser, ensureDependencies, ensureVulkan, findSwiftShader, say } from './install.mjs'

const REPORTS = join(ROOT, 'test-results')
const bin = (path) => join(ROOT, 'node_modules', path)
const vitest = (report, ...filters) => [
  bin('vitest/vitest.mjs'),
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...filters,
]

/** Every stage: the Node program and arguments it runs, what it adds to the environment, how its report is counted, its time limit in minutes. */
const STAGES = {
  typecheck: { argv: () => [bin('typescript-native/bin/tsc'), '--noEmit'], minutes: 3 },
  lint: { argv: () => [bin('eslint/bin/eslint.js'), '.', '--max-warnings=0'], minutes: 5 },
  format: { argv: () => [bin('prettier/bin/prettier.cjs'), '--check', '--log-level=warn', '.'], minutes: 3 },
  layers: { argv: (report) => vitest(report, 'test/architecture.test.ts'), count: countVitest, minutes: 2 },
  unit: { argv: (report) => [...vitest(report), '--exclude=test/architecture.test.ts'], count: countVitest, minutes: 25 },
  // The other software driver: kernels, ops, methods and whole runs must not lean on what one driver happens to do. SmolLM2's run takes minutes there.
  swiftshader: {
    argv: (report) => [
      ...vitest(
        report,
        'src/kernels',
        'src/autograd',
        'src/objectives',
        'src/tensor/fuse',
        'src/peft',
        'src/models',
        'test/trajectories.test.ts',
      ),
      '-t',
      // What is left out runs on lavapipe: a real model, and the ways of recomputing activations, which share their kernels.
      '^(?!.*(smollm2|, recompute|, lean|checkpoint, f16))',
    ],
    env: (machine) => ({ VK_ICD_FILENAMES: machine.swiftshader, ETUDE_ADAPTER: 'swiftshader' }),
    skip: (machine) =>
      machine.vulkan.name === 'swiftshader'
        ? 'the unit tests ran on it'
        : machine.swiftshader
          ? null
          : 'this browser brings no SwiftShader',
    count: countVitest,
    minutes: 25,
  },
  build: { argv: () => [bin('vite/bin/vite.js'), 'build'], minutes: 3 },
  browser: {
    argv: () => [bin('@playwright/test/cli.js'), 'test'],
    env: (machine, report) => ({
      ETUDE_E2E_JSON: report,
      CHROMIUM: machine.browser,
      ...(machine.lavapipeBrowser ? { ETUDE_CHROMIUM_LVP: machine.lavapipeBrowser } : {}),
    }),
    count: countPlaywright,
    minutes: 20,
  },
}

function countVitest(report) {
  return { passed: report.numPassedTests, failed: report.numFailedTests, skipped: report.numPendingTests + report.numTodoTests }
}

function countPlaywright({ stats }) {
  return { passed: stats.expected + stats.flaky, failed: stats.unexpected, skipped: stats.skipped }
}

/** Runs a stage to its end; resolves to its exit code, or null when it ran past its limit or was killed. */
function execute(argv, env, minutes) {
  return new Promise((done) => {
    const child = spawn(process.execPath, argv, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } })
    const timer = setTimeout(() => {
      say(`still running after ${minutes} minutes: ending it`)
      child.kill('SIGTERM')
      setTimeout(() => child.kill('SIGKILL'), 5000).unref()
    }, minutes * 60_000)
    child.on('error', () => done(null))
    child.on('close', (code) => {
      clearTimeout(timer)
      done(code)
    })
  })
}

/** Runs one stage and counts it. */
async function runStage(name, machine) {
  const stage = STAGES[name]
  const skipped = stage.skip?.(machine)
  if (skipped) {
    say(`${name}: skipped, ${skipped}`)
    return { passed: 0, failed: 0, skipped: 1 }
  }
  const report = join(REPORTS, `${name}.json`)
  rmSync(report, { force: true })
  const began = Date.now()
  say(`${name} …`)
  const code = await execute(
    stage.argv(report),
    { ...(machine.vulkan?.icd ? { VK_ICD_FILENAMES: machine.vulkan.icd } : {}), ...stage.env?.(machine, report) },
    stage.minutes,
  )
  const counts = stage.count ? readCounts(stage.count, report) : { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 }
  if (code !== 0 && counts.failed === 0) counts.failed = 1
  say(`${name}: ${summary(counts)} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
  return counts
}

/** A missing, unreadable or empty report is a failure of its own: no test ran. */
function readCounts(count, report) {
  try {
    const counts = count(JSON.parse(readFileSync(report, 'utf8')))
    return counts.passed + counts.failed + counts.skipped > 0 ? counts : { passed: 0, failed: 1, skipped: 0 }
  } catch {
    say(`no report at ${report}`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
}

const summary = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`

/** The stages that the command line asks for, in order; exits with 2 where it cannot be read. */
function chosenStages(args) {
  const names = Object.keys(STAGES)
  const usage = `usage: npm test [-- --only <stage>[,<stage>…]]\nstages: ${names.join(', ')}\n`
  if (args.includes('--help')) {
    process.stdout.write(usage)
    process.exit(0)
  }
  if (args.length === 0) return names
  const wanted = args[0] === '--only' && args.length === 2 ? args[1].split(',') : []
  if (wanted.length === 0 || wanted.some((n) => !names.includes(n))) {
    process.stderr.write(`not understood: ${args.join(' ')}\n${usage}`)
    process.exit(2)
  }
  return names.filter((n) => wanted.includes(n))
}

/** Installs what the stages need and says what the machine has. */
async function prepare(stages) {
  ensureDependencies()
  if (!stages.some((s) => ['layers', 'unit', 'swiftshader', 'browser'].includes(s))) return {}
  const browser = ensureBrowser()
  const vulkan = ensureVulkan(browser)
  say(`WebGPU in Node: ${vulkan.icd ?? "the machine's own driver"}; browser: ${browser}`)
  const { ensureChromiumOnLavapipe } = await import('../bench/chromium_lvp.mjs')
  const lavapipeBrowser = stages.includes('browser') && vulkan.name !== 'gpu' ? ensureChromiumOnLavapipe(browser) : null
  return { browser, vulkan, swiftshader: findSwiftShader(browser), lavapipeBrowser }
}

const stages = chosenStages(process.argv.slice(2))
const total = { passed: 0, failed: 0, skipped: 0 }
const add = (counts) => Object.keys(total).forEach((key) => (total[key] += counts[key]))
process.env.XDG_RUNTIME_DIR ??= '/tmp'
if (!existsSync(REPORTS)) mkdirSync(REPORTS, { recursive: true })

try {
  const machine = await prepare(stages)
  for (const name of stages) add(await runStage(name, machine))
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  add({ passed: 0, failed: 1, skipped: 0 })
}
process.stdout.write(`${summary(total)}\n`)
process.exitCode = total.failed === 0 ? 0 : 1
