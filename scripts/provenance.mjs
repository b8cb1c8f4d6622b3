/** @file When something was measured, of which commit, and beside which versions of other packages: what files of bench/results say of themselves. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './install.mjs'

const git = (...args) => spawnSync('git', args, { cwd: ROOT, encoding: 'utf8' })

/** Short hash, with `-dirty` where what is measured was changed since; undefined without git. */
function commitOf() {
  const { status, stdout } = git('rev-parse', '--short', 'HEAD')
  if (status !== 0) return undefined
  const changed = git('diff', '--quiet', 'HEAD', '--', 'src', 'shaders', 'bench', ':!bench/results').status !== 0
  return `${stdout.trim()}${changed ? '-dirty' : ''}`
}

/** Versions of the packages that are installed. */
function versionsOf(packages) {
  const file = (name) => join(ROOT, 'node_modules', name, 'package.json')
  return Object.fromEntries(packages.filter((p) => existsSync(file(p))).map((p) => [p, JSON.parse(readFileSync(file(p), 'utf8')).version]))
}

/** @param packages names as npm has them; none where nothing else was measured. `commit` is left out where it is not known. */
export function provenance(packages = []) {
  const versions = packages.length > 0 ? { versions: versionsOf(packages) } : {}
  return { date: new Date().toISOString().slice(0, 10), commit: commitOf(), ...versions }
}
