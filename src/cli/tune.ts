/** @file Entry of `npm run tune`: training without a browser, and looking at models (logits, eval, generate). */
import { dispatch, PROGRAM } from './dispatch.ts'
import { runProgram } from './program.ts'

await runProgram(() => dispatch(process.argv.slice(2)), `See ${PROGRAM} --help`)
