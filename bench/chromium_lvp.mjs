/**
 * @file Makes a Chromium whose software WebGPU adapter is Mesa's lavapipe instead of SwiftShader: 4 to 6 times faster and with f16. It is a folder of
 * links to the installed browser in `.cache/`, with the SwiftShader driver replaced by lavapipe_shim.c. Linux only; needs a C compiler and lavapipe.
 * `node bench/chromium_lvp.mjs` prints the path for `executablePath`.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { ROOT, findBrowser, findLavapipe, findSwiftShader, onPath, say } from '../scripts/install.mjs'

const REPLACED = ['libvk_swiftshader.so', 'vk_swiftshader_icd.json']

/** Path of the browser, made when missing or older than what it is made of; null, with the reason said, where it cannot be. */
export function ensureChromiumOnLavapipe(browser = findBrowser()) {
  const lavapipe = process.platform === 'linux' ? findLavapipe() : null
  const swiftshader = findSwiftShader(browser)
  const compiler = ['cc', 'gcc', 'clang'].find(onPath)
  const binary = swiftshader && ['chromium', 'chrome', 'msedge'].map((n) => join(dirname(swiftshader), n)).find((p) => existsSync(p))
  if (!lavapipe || !binary || !compiler) {
    say(
      `browser stays on SwiftShader: ${!lavapipe ? 'no lavapipe' : !binary ? 'no SwiftShader to replace in this browser' : 'no C compiler'}`,
    )
    return null
  }
  const folder = join(ROOT, '.cache/chromium-lvp')
  const made = join(folder, basename(binary))
  const shim = resolve(import.meta.dirname, 'lavapipe_shim.c')
  const stamp = [binary, lavapipe, shim].map((p) => `${p} ${statSync(p).mtimeMs}`).join('\n')
  const stampFile = join(folder, 'made-of.txt')
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return made

  const fresh = `${folder}.${process.pid}`
  mkdirSync(fresh, { recursive: true })
  for (const name of readdirSync(dirname(binary))) {
    const from = join(dirname(binary), name)
    // The binary finds its files beside its own real path, so it must not be a symbolic link.
    if (name === basename(binary)) linkOrCopy(from, join(fresh, name))
    else if (!REPLACED.includes(name)) symlinkSync(from, join(fresh, name))
  }
  const library = JSON.parse(readFileSync(lavapipe, 'utf8')).ICD.library_path
  const target = library.startsWith('.') ? resolve(dirname(lavapipe), library) : library
  const built = spawnSync(compiler, ['-O2', '-shared', '-fPIC', `-DLAVAPIPE="${target}"`, '-o', join(fresh, REPLACED[0]), shim, '-ldl'], {
    encoding: 'utf8',
  })
  if (built.status !== 0) {
    say(`browser stays on SwiftShader: ${compiler} failed: ${built.stderr}`)
    rmSync(fresh, { recursive: true, force: true })
    return null
  }
  const manifest = { file_format_version: '1.0.0', ICD: { library_path: `./${REPLACED[0]}`, api_version: '1.4.305' } }
  writeFileSync(join(fresh, REPLACED[1]), JSON.stringify(manifest))
  writeFileSync(join(fresh, basename(stampFile)), stamp)
  rmSync(folder, { recursive: true, force: true })
  renameSync(fresh, folder)
  say(`made a Chromium on lavapipe in ${folder}`)
  return made
}

function linkOrCopy(from, to) {
  try {
    linkSync(from, to)
  } catch {
    copyFileSync(from, to)
  }
}

if (process.argv[1] === import.meta.filename) {
  const path = ensureChromiumOnLavapipe()
  if (path) process.stdout.write(`${path}\n`)
  else process.exitCode = 1
}
