/** @file From the arguments of `npm run tune` to the command they name. */
import { type Args, parseArgs, wantsHelp } from './args.ts'
import { type CommandSpec, EVAL, GENERATE, LOGITS, PLAN, TUNE } from './commands.ts'
import { type GpuSource, NODE_GPU } from './gpu.ts'
import { commandHelp, tuneHelp } from './help.ts'
import { evalCommand, generateCommand, logitsCommand } from './model_commands.ts'
import { Output } from './output.ts'
import { planCommand } from './plan_command.ts'
import { tuneCommand } from './tune_command.ts'

export const PROGRAM = 'npm run tune --'
const COMMANDS: readonly { readonly spec: CommandSpec; readonly run: (args: Args, out: Output, gpus: GpuSource) => Promise<void> }[] = [
  { spec: TUNE, run: tuneCommand },
  { spec: PLAN, run: planCommand },
  { spec: LOGITS, run: logitsCommand },
  { spec: EVAL, run: evalCommand },
  { spec: GENERATE, run: generateCommand },
]

/** Runs a command to its end. `output` makes what it writes to. Throws OptionError for arguments, other EtudeErrors for files, models and runs. */
export async function dispatch(
  argv: readonly string[],
  output: (json: boolean) => Output = (json) => new Output(json),
  gpus: GpuSource = NODE_GPU,
): Promise<void> {
  const named = COMMANDS.find(({ spec }) => spec.id === argv[0])
  const { spec, run } = named ?? COMMANDS[0]
  if (wantsHelp(argv)) {
    output(false).part(named && spec !== TUNE ? commandHelp(spec, PROGRAM) : tuneHelp(PROGRAM))
    return
  }
  const args = parseArgs(spec.flags, named ? argv.slice(1) : argv)
  const out = output(args.switch('json'))
  try {
    await run(args, out, gpus)
  } finally {
    out.end()
  }
}
