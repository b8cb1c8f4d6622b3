/**
 * @file `npm run proof`: a real model tuned on real data in the studio, in a browser, and its adapter checked in PEFT. Needs SmolLM2-135M-Instruct's GGUF and its
 * data (beside the checkout, or named), and a Python with torch, transformers, peft and gguf. Writes bench/results/proof.json and the page made of it.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ROOT, ensureBrowser, ensureDependencies, ensureVulkan, probeAdapter, say } from './install.mjs'
import { emptyFolder, WANTED } from './proof_folder.mjs'
import { provenance } from './provenance.mjs'

const RUN = { steps: 120, batch: 4, seq: 128, lr: 1e-3, r: 8, alpha: 16 }
/** Most that the held-out loss may be at the end of the whole run. */
const GOAL = 3.75
const PROMPTS = 4
const shared = (path) => resolve(ROOT, '../shared', path)

const USAGE = `usage: npm run proof [-- options]
  --steps <n>      fewer steps than ${RUN.steps}, to try it: then nothing is written to bench/results
  --python <path>  a Python with torch, transformers, peft and gguf (default: python3)
  --model <file>   SmolLM2-135M-Instruct.Q4_1.gguf (default: beside the checkout)
  --data <file>    devils-dictionary.sft.jsonl (default: beside the checkout)
  --out <folder>   where files of the run go: an empty folder, or one of an earlier run, which is emptied (default: .cache/proof)
  --help           this text
`

function readOptions() {
  const text = { type: 'string' }
  try {
    const { values } = parseArgs({
      options: { steps: text, python: text, model: text, data: text, out: text, help: { type: 'boolean' } },
    })
    if (values.help) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    const steps = Number(values.steps ?? RUN.steps)
    if (!Number.isInteger(steps) || steps < 1) throw new Error(`--steps wants a whole number, not ${values.steps}`)
    return {
      steps,
      python: values.python ?? 'python3',
      model: resolve(values.model ?? shared('models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf')),
      data: resolve(values.data ?? shared('data/devils-dictionary.sft.jsonl')),
      out: resolve(values.out ?? join(ROOT, '.cache/proof')),
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n${USAGE}`)
    process.exit(2)
  }
}

/** Runs a command to its end; its standard output where `capture`, else on stderr. Throws where it failed. */
function run(what, command, args, { env = {}, capture = false } = {}) {
  say(what)
  const stdio = ['ignore', capture ? 'pipe' : 2, 2]
  const { status, stdout, error } = spawnSync(command, args, { cwd: ROOT, stdio, encoding: 'utf8', env: { ...process.env, ...env } })
  if (error || status !== 0) throw new Error(`${what}: failed${error ? ` (${error.message})` : ''}, see its output above`)
  return stdout
}

/** Throws where there is no such Python, or where it lacks what checks the adapter. */
function checkPython(python) {
  const { error, status, stderr } = spawnSync(python, ['-c', 'import torch, transformers, peft, gguf'], { encoding: 'utf8' })
  if (error)
    throw new Error(
      `${python} ${error.code === 'ENOENT' ? 'is not there' : `does not start (${error.message})`}: name a Python with --python`,
    )
  if (status !== 0) throw new Error(`${python} lacks torch, transformers, peft or gguf: name another with --python\n${stderr}`)
}

/** Rows in the order that the studio splits as the reference did; the prompts that are watched. */
async function prepare({ data, out, steps }) {
  const rows = JSON.parse(readFileSync(join(ROOT, 'test/golden/proof_rows.json'), 'utf8'))
  const content = readFileSync(data)
  if (createHash('sha256').update(content).digest('hex') !== rows.sha256)
    throw new Error(`${data} is not the file that test/golden/proof_rows.json was made for (${rows.file}, sha256 ${rows.sha256})`)
  const lines = content.toString('utf8').trimEnd().split('\n')
  emptyFolder(out)
  const prompts = rows.held_out.slice(0, PROMPTS).map((i) => JSON.parse(lines[i]).instruction)
  writeFileSync(join(out, WANTED), JSON.stringify({ run: { ...RUN, steps }, prompts }))
  writeFileSync(join(out, 'lines.json'), JSON.stringify(lines))
  run('ordering the rows', process.execPath, ['scripts/run.mjs', 'bench/proof_file.ts', join(out, 'lines.json'), join(out, 'rows.jsonl')])
}

async function unzip(file, folder) {
  const { unzipSync } = await import('fflate')
  mkdirSync(folder, { recursive: true })
  for (const [path, bytes] of Object.entries(unzipSync(readFileSync(file))))
    if (!path.endsWith('/')) writeFileSync(join(folder, path.split('/').at(-1)), bytes)
}

const options = readOptions()
const { model, data, out, python, steps } = options
try {
  ensureDependencies()
  for (const file of [model, data]) if (!existsSync(file)) throw new Error(`there is no ${file}: name one with --model and --data`)
  checkPython(python)
  const browser = ensureBrowser()
  const icd = ensureVulkan(browser).icd
  const { ensureChromiumOnLavapipe } = await import('../bench/chromium_lvp.mjs')
  const lavapipe = ensureChromiumOnLavapipe(browser)
  await prepare(options)
  run('building the studio', process.execPath, [
    'node_modules/vite/bin/vite.js',
    'build',
    '--outDir',
    join(out, 'site'),
    '--emptyOutDir',
    '--logLevel',
    'warn',
  ])
  run(
    `training ${steps} steps in the studio`,
    process.execPath,
    ['node_modules/@playwright/test/cli.js', 'test', '-c', 'bench/proof.config.ts'],
    {
      env: {
        ETUDE_PROOF_OUT: out,
        ETUDE_PROOF_MODEL: model,
        ...(lavapipe ? { ETUDE_CHROMIUM_LVP: lavapipe } : {}),
      },
    },
  )
  await unzip(join(out, 'adapter.zip'), join(out, 'adapter'))
  const checked = run(
    'checking the adapter in PEFT',
    python,
    ['test/golden/check_proof.py', model, join(out, 'rows.jsonl'), join(out, 'adapter'), '--seq', String(RUN.seq)],
    {
      capture: true,
      env: icd ? { VK_ICD_FILENAMES: icd } : {},
    },
  )
  const made = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'))
  const peft = JSON.parse(checked)
  // Lavapipe stands in for SwiftShader in its browser, and is called that there.
  const adapter = (lavapipe && probeAdapter(icd)?.description) || made.adapter
  const machine = `${cpus()[0]?.model.trim() ?? process.arch}, ${cpus().length} threads, ${process.platform} ${process.arch}`
  const proof = {
    ...provenance(),
    machine,
    model: 'SmolLM2-135M-Instruct (Q4_1)',
    data: 'The Devil’s Dictionary',
    run: { ...RUN, steps },
    ...made,
    adapter,
    peft,
  }
  const [first, last] = [made.evals[0], made.evals.at(-1)]
  for (const [ours, theirs] of [
    [first.loss, peft.loss_before],
    [last.loss, peft.loss_after],
  ])
    if (!(Math.abs(ours - theirs) <= peft.loss_tolerance)) throw new Error(`held-out loss: ${ours} in the studio, ${theirs} in PEFT`)
  if (steps === RUN.steps && !(last.loss <= GOAL)) throw new Error(`the held-out loss is ${last.loss} after ${steps} steps, above ${GOAL}`)
  const whole = steps === RUN.steps
  writeFileSync(whole ? join(ROOT, 'bench/results/proof.json') : join(out, 'proof.json'), `${JSON.stringify(proof, null, 1)}\n`)
  if (whole) run('writing docs/results.md', process.execPath, ['scripts/run.mjs', 'src/cli/docs.ts'])
  process.stdout.write(
    `Held-out loss ${first.loss.toFixed(3)} → ${last.loss.toFixed(3)} after ${steps} steps (PEFT: ${peft.loss_before.toFixed(3)} → ${peft.loss_after.toFixed(3)}); ` +
      `logits differ from PEFT's by at most ${peft.max_logit_difference.toExponential(1)}.\n`,
  )
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
