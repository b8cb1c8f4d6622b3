/** The scripts around the bench and the proof: what they refuse, and that only their own files are removed. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { emptyFolder } from '../scripts/proof_folder.mjs'
import { provenance } from '../scripts/provenance.mjs'
import { scratch, spawned } from './cli.ts'

const bench = (...argv: string[]) => spawned(process.execPath, ['scripts/bench.mjs', ...argv])

test('npm run bench: --all is every part, and excludes --only', async () => {
  const both = await bench('--all', '--only', 'step')
  expect(both.code).toBe(2)
  expect(both.stderr).toContain('--all and --only exclude each other')
  const unknown = await bench('--only', 'nothing')
  expect(unknown.stderr).toMatch(/--only wants some of .*smollm2-lora-1x4096, not nothing/)
  expect((await bench('--help')).stdout).toContain('--all')
})

test('what a file of bench/results says of itself', () => {
  const said = provenance(['onnxruntime-web', 'a-package-that-is-not-there'])
  expect(said.date).toMatch(/^\d{4}-\d\d-\d\d$/)
  if (said.commit !== undefined) expect(said.commit).toMatch(/^[0-9a-f]{7,}(-dirty)?$/)
  expect(Object.keys(said.versions ?? {})).toEqual(['onnxruntime-web'])
  expect(provenance().versions).toBeUndefined()
})

test('a proof run empties its own folder, and refuses one with files of somebody else', () => {
  const out = join(scratch(), 'run')
  emptyFolder(out)
  expect(existsSync(out)).toBe(true)
  const write = (name: string): void => writeFileSync(join(out, name), '')
  write('wanted.json')
  write('rows.jsonl')
  mkdirSync(join(out, 'site/assets'), { recursive: true })
  emptyFolder(out)
  for (const name of ['wanted.json', 'rows.jsonl', 'site']) expect(existsSync(join(out, name))).toBe(false)
  // A name of its own does not make a folder its own.
  write('adapter.zip')
  expect(() => emptyFolder(out)).toThrow(/holds adapter\.zip, which npm run proof did not write/)
  write('wanted.json')
  write('thesis.txt')
  expect(() => emptyFolder(out)).toThrow(/holds thesis\.txt/)
  for (const name of ['adapter.zip', 'wanted.json', 'thesis.txt']) expect(existsSync(join(out, name))).toBe(true)
})
