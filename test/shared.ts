/** @file Reference material beside a checkout (`../shared`): goldens, real weights. A clone of the project alone lacks it, and tests that need it say that they were skipped. */
import { existsSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe } from 'vitest'

const ROOT = resolve(import.meta.dirname, '../../shared')

/** Absolute path of something under ../shared, or null where it is missing. */
export function sharedPath(...parts: string[]): string | null {
  const path = resolve(ROOT, ...parts)
  return existsSync(path) ? path : null
}

/** `describe` that runs with the path where it exists and is reported as skipped, with the reason, where it does not. */
export function describeShared(name: string, parts: string[], body: (path: string) => void): void {
  const path = sharedPath(...parts)
  if (path) describe(name, () => body(path))
  else describe.skip(`${name} (skipped: ../shared/${parts.join('/')} is not beside this checkout)`, () => body(''))
}

/** `describe` for a test of a real model, which runs with the path of the file of that name: in the folder ETUDE_MODELS or in ../shared/models, there or one folder
 * deeper. Reported as skipped, with the reason, where there is none. */
export function describeModel({ name }: { readonly name: string }, body: (path: string) => void): void {
  const folder = process.env.ETUDE_MODELS ?? resolve(ROOT, 'models')
  const inside = existsSync(folder) ? readdirSync(folder).map((entry) => resolve(folder, entry, name)) : []
  const found = [resolve(folder, name), ...inside].find((path) => existsSync(path))
  if (found) describe(name, () => body(found))
  else
    describe.skip(`${name} (skipped: not in ${process.env.ETUDE_MODELS ? folder : '../shared/models'}; ETUDE_MODELS names another folder)`, () =>
      body(''))
}
