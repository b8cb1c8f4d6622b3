/** @file The commands: in this process, with what they write recorded, and as a person runs them. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll } from 'vitest'
import { dispatch } from '../src/cli/dispatch.ts'
import { goldensCommand } from '../src/cli/golden_command.ts'
import type { GpuSource } from '../src/cli/gpu.ts'
import { Output } from '../src/cli/output.ts'
import { gpu } from './gpu.ts'

export const ROOT = resolve(import.meta.dirname, '..')

const folders: string[] = []
/** A folder that is gone after the tests of this file. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), 'etude-'))
  folders.push(path)
  return path
}
afterAll(() => {
  for (const f of folders.splice(0)) rmSync(f, { recursive: true, force: true })
})

export class Recorder extends Output {
  readonly results: unknown[] = []
  readonly notes: string[] = []
  text = ''
  onResult: () => void = () => undefined
  override result(value: unknown, text: string): void {
    this.onResult()
    this.results.push(structuredClone(value))
    this.text += `${text}\n`
  }
  override part(text: string): void {
    this.text += text
  }
  override note(text: string): void {
    this.notes.push(text)
  }
}

/** The tests' device: its compiled kernels are worth keeping. */
export const TEST_GPU: GpuSource = { open: () => Promise.resolve(gpu), close: () => undefined }

/** Run a command here; throws what it throws. */
async function record(run: (output: (json: boolean) => Output) => Promise<void>): Promise<Recorder> {
  let out = new Recorder(true)
  await run((json) => (out = new Recorder(json)))
  return out
}
export const tuneOn =
  (gpus: GpuSource) =>
  (...argv: string[]): Promise<Recorder> =>
    record((output) => dispatch(argv, output, gpus))
export const tune = tuneOn(TEST_GPU)
export const goldens = (...argv: string[]): Promise<Recorder> => record((output) => goldensCommand(argv, output, TEST_GPU))

export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}
/** Run a command in a process of its own, from the repository's folder. */
export function spawned(command: string, argv: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((done, fail) => {
    const child = spawn(command, argv, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (b: Buffer) => (stdout += b.toString()))
    child.stderr.on('data', (b: Buffer) => (stderr += b.toString()))
    child.on('error', fail)
    child.on('close', (code) => {
      done({ code, stdout, stderr })
    })
  })
}
export const run = (entry: string, ...argv: string[]): Promise<Ran> =>
  spawned(process.execPath, ['scripts/run.mjs', `src/cli/${entry}.ts`, ...argv])

export const STARTER = join(ROOT, 'public/starter')
export interface Step {
  readonly step: number
  readonly loss: number
  readonly grad_norm: number
  readonly lr: number
  readonly tokens: number
}

/** Four tokenised rows: all of them are one batch, so a step's loss is the loss of the values before it. */
export function tokenRows(folder: string): string {
  const rows = Array.from({ length: 4 }, (_, r) => Array.from({ length: 10 + r }, (_, i) => 20 + ((7 * r + 3 * i) % 40)))
  const path = join(folder, 'rows.jsonl')
  writeFileSync(
    path,
    rows.map((ids) => `${JSON.stringify({ input_ids: ids, labels: ids.map((id, i) => (i < 2 ? -100 : id)) })}\n`).join(''),
  )
  return path
}
export function textRows(folder: string): string {
  const path = join(folder, 'data.csv')
  writeFileSync(path, 'prompt,completion\nWho is Tom?,Tom is a dog.\n"Is it big, or small?",It is small.\nWhere?,\n')
  return path
}
