/** @file `goldens`: every registered method against a file of reference values of PEFT. */
import { FileError, OptionError } from '../errors.ts'
import { fromPath } from '../io/node_source.ts'
import { parseArgs, wantsHelp } from './args.ts'
import { GOLDENS } from './commands.ts'
import { checkVariant } from './golden_check.ts'
import { readGoldens } from './golden_file.ts'
import { type GpuSource, NODE_GPU } from './gpu.ts'
import { commandHelp } from './help.ts'
import { Output } from './output.ts'

export const PROGRAM = 'npm run goldens --'
/** float32 on both sides, sums of 16 products in another order: a thousandth of these is usual. */
const TOLERANCE = { forward: 1e-4, gradients: 1e-3, merged: 1e-4 }

const number = (v: number | null): string => (v === null ? '-' : v.toExponential(1)).padStart(9)

/** Throws FileError where a method is out of tolerance or the file is not one, OptionError for arguments. */
export async function goldensCommand(
  argv: readonly string[],
  output: (json: boolean) => Output = (json) => new Output(json),
  gpus: GpuSource = NODE_GPU,
): Promise<void> {
  if (wantsHelp(argv)) {
    output(false).part(commandHelp(GOLDENS, PROGRAM))
    return
  }
  const files = argv.filter((a) => !a.startsWith('--'))
  const args = parseArgs(
    GOLDENS.flags,
    argv.filter((a) => a.startsWith('--')),
  )
  if (files.length !== 1)
    throw new OptionError(`got ${files.length} files, expected one`, { where: 'arguments', fix: `${PROGRAM} <file> [--json]` })
  const path = files[0]
  const out = output(args.switch('json'))
  const variants = await readGoldens(await fromPath(path))
  const gpu = await gpus.open()
  const failed: string[] = []
  try {
    for (const v of variants) {
      const r = await checkVariant(gpu, v)
      if ('missing' in r) {
        out.result(r, `${r.name.padEnd(16)} not here: ${r.why}`)
        continue
      }
      const ok = r.forward <= TOLERANCE.forward && r.gradients <= TOLERANCE.gradients && (r.merged ?? 0) <= TOLERANCE.merged
      if (!ok) failed.push(r.name)
      out.result(
        r,
        `${r.name.padEnd(16)} forward ${number(r.forward)}  gradients ${number(r.gradients)}  merged ${number(r.merged)}${ok ? '' : '  OUT OF TOLERANCE'}`,
      )
    }
  } finally {
    gpus.close(gpu)
  }
  if (failed.length > 0)
    throw new FileError(
      `${failed.join(', ')} differ from the file by more than ${TOLERANCE.forward} (forward, merged) or ${TOLERANCE.gradients} (gradients)`,
      { where: path },
    )
}
