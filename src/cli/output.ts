/** @file Where the commands write: results on stdout, everything said to a person on stderr. */

/** One line of JSON, numbers that are not finite as null. */
const jsonLine = (value: unknown): string => `${JSON.stringify(value)}\n`

/** Keep stdout for results, whatever a library logs; a reader that has seen enough (`| head`) is no error. */
export function claimStdout(): void {
  process.stdout.on('error', (e: NodeJS.ErrnoException) => {
    if (e.code === 'EPIPE') process.exit(0)
    throw e
  })
  console.log =
    console.info =
    console.debug =
      (...parts: unknown[]) => {
        console.error(...parts)
      }
}

export class Output {
  #bar = false
  /** @param json results are JSON lines. */
  constructor(readonly json: boolean) {}

  /** A result: as JSON, or as the text for people. */
  result(value: unknown, text: string): void {
    this.#clear()
    process.stdout.write(this.json ? jsonLine(value) : `${text}\n`)
  }
  /** Part of a text that is being written; not with --json. */
  part(text: string): void {
    if (!this.json) process.stdout.write(text)
  }
  /** Something to know that is no result. */
  note(text: string): void {
    this.#clear()
    process.stderr.write(`${text}\n`)
  }

  /** Whether a bar is drawn instead of lines. */
  get hasBar(): boolean {
    return process.stderr.isTTY
  }
  /** Redraw the progress bar, on a terminal. */
  bar(done: number, total: number, text: string): void {
    if (!this.hasBar) return
    const width = 24
    const filled = Math.round((width * Math.min(done, total)) / Math.max(1, total))
    const line = `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${text}`
    process.stderr.write(`\r\x1b[K${line.slice(0, Math.max(20, (process.stderr.columns || 80) - 1))}`)
    this.#bar = true
  }
  #clear(): void {
    if (this.#bar) process.stderr.write('\r\x1b[K')
    this.#bar = false
  }
  end(): void {
    this.#clear()
  }
}
