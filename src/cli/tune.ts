/** @file Entry of `npm run tune`: training without a browser, and looking at models (logits, eval, generate). */
import { type Args, parseArgs, wantsHelp } from './args.ts'
import { type CommandSpec, EVAL, GENERATE, LOGITS, TUNE } from './commands.ts'
import { commandHelp, tuneHelp } from './help.ts'
import { evalCommand, generateCommand, logitsCommand } from './model_commands.ts'
import { Output } from './output.ts'
import { runProgram } from './program.ts'
import { tuneCommand } from './tune_command.ts'

const PROGRAM = 'npm run tune --'
const COMMANDS: readonly { readonly spec: CommandSpec; readonly run: (args: Args, out: Output) => Promise<void> }[] = [
  { spec: TUNE, run: tuneCommand },
  { spec: LOGITS, run: logitsCommand },
  { spec: EVAL, run: evalCommand },
  { spec: GENERATE, run: generateCommand },
]

await runProgram(async () => {
  const argv = process.argv.slice(2)
  const named = COMMANDS.find(({ spec }) => spec.id === argv[0])
  const { spec, run } = named ?? COMMANDS[0]
  if (wantsHelp(argv)) {
    process.stdout.write(named && spec !== TUNE ? commandHelp(spec, PROGRAM) : tuneHelp(PROGRAM))
    return
  }
  const args = parseArgs(spec.flags, named ? argv.slice(1) : argv)
  const out = new Output(args.switch('json'))
  try {
    await run(args, out)
  } finally {
    out.end()
  }
}, `See ${PROGRAM} --help`)
