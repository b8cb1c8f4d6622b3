/** @file Entry of `npm run goldens`: every registered method against reference values of PEFT. Ends with 1 where one is out of tolerance. */
import { goldensCommand, PROGRAM } from './golden_command.ts'
import { runProgram } from './program.ts'

await runProgram(() => goldensCommand(process.argv.slice(2)), `See ${PROGRAM} --help`)
