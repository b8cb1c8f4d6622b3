/** @file The frame of a command-line program: errors to messages and exit codes, and a clean end. */
import { EtudeError, OptionError } from '../errors.ts'
import { claimStdout } from './output.ts'

/** Runs `body` and ends the process: 0, 1 where something failed, 2 where the arguments were not understood. Prints no stack trace unless ETUDE_DEBUG is set. */
export async function runProgram(body: () => Promise<void>, hint: string): Promise<never> {
  let code = 0
  claimStdout()
  try {
    await body()
  } catch (e) {
    code = e instanceof OptionError ? 2 : 1
    process.stderr.write(`${messageOf(e)}\n`)
    if (code === 2) process.stderr.write(`${hint}\n`)
    if (process.env.ETUDE_DEBUG && e instanceof Error) process.stderr.write(`${e.stack}\n`)
  }
  // What was written must have left the process: a pipe may be slower.
  await new Promise<void>((resolve) => process.stdout.write('', () => resolve()))
  process.exit(code)
}

function messageOf(e: unknown): string {
  if (e instanceof EtudeError) return e.message
  const text = e instanceof Error ? e.message : String(e)
  return `Something went wrong that Etude did not expect: ${text}`
}
