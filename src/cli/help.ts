/** @file `--help`, rendered from the declarations. */
import { defaults, type Option, type Options } from '../options.ts'
import { METHODS } from '../peft/registry.ts'
import { describe, type Flag, flagName } from './args.ts'
import { type CommandSpec, EVAL, GENERATE, LOGITS, PLAN, TUNE } from './commands.ts'

const shown = (v: unknown): string => (Array.isArray(v) ? v.join(',') : typeof v === 'number' ? String(v) : String(v))
const isOption = (f: Flag): f is Option => f.kind !== 'text' && f.kind !== 'switch' && f.kind !== 'pairs' && f.kind !== 'list'

/** Words laid in lines of at most 110 characters. */
function wrap(text: string, indent: string): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line && indent.length + line.length + 1 + word.length > 110) {
      lines.push(indent + line)
      line = word
    } else line = line ? `${line} ${word}` : word
  }
  return [...lines, indent + line].join('\n')
}

function flagHelp(name: string, flag: Flag): string {
  const written = flagName(name)
  const off = flag.kind === 'bool' && flag.default ? ` (off: --no-${written.slice(2)})` : ''
  const value =
    flag.kind === 'switch' || flag.kind === 'bool'
      ? ''
      : isOption(flag)
        ? ` <${flag.kind === 'choice' ? flag.choices.join('|') : flag.kind === 'int' ? 'n' : 'x'}>`
        : ` ${describe(flag)}`
  const range = isOption(flag) && (flag.kind === 'int' || flag.kind === 'float') ? ` Accepts ${describe(flag)}.` : ''
  const fallback =
    isOption(flag) && !/Default:/.test(flag.help)
      ? ` Default: ${flag.kind === 'bool' ? (flag.default ? 'on' : 'off') : shown(flag.default)}.`
      : ''
  const required = flag.kind === 'text' && flag.required ? ' Required.' : ''
  return `  ${written}${value}${off}\n${wrap(`${flag.help}${range}${fallback}${required}`, '      ')}`
}

const flagsHelp = (c: CommandSpec): string =>
  Object.entries(c.flags)
    .map(([name, f]) => flagHelp(name, f))
    .join('\n')
const heading = (c: CommandSpec, program: string): string => `${c.summary}\n\nUsage: ${program} ${c.usage}\n`

function optionsHelp(options: Options): string {
  const start = defaults(options)
  return Object.entries(options)
    .map(([k, o]) => wrap(`${k} = ${shown(start[k])}  ${o.help} (${describe(o)})`, '      '))
    .join('\n')
}

function methodsHelp(): string {
  return [...METHODS.values()]
    .map((m) => {
      const options = Object.keys(m.options).length > 0 ? optionsHelp(m.options) : '      (no options)'
      return `  ${m.id}: ${m.summary} ${m.paper.cite}, ${m.paper.url}\n      Default --lr ${m.runDefaults.lr ?? TUNE_LR}${m.rateByWidth ? ' for a model of width 576, less in proportion for a wider one' : ''}. Options for --set:\n${options}`
    })
    .join('\n')
}
const TUNE_LR = shown((TUNE.flags.lr as Option).default)

const EXITS = 'Exit codes: 0 done; 1 a file, the model or the run failed, with a message naming it; 2 the arguments were not understood.'

/** Help of one command. `program`: how it is called. */
export function commandHelp(c: CommandSpec, program: string): string {
  return `${heading(c, program)}\n${flagsHelp(c)}\n\n${c.output.map((l) => wrap(l, '')).join('\n')}\n${wrap(EXITS, '')}\n`
}

/** Help of `npm run tune`: training, its methods, and the commands beside it. */
export function tuneHelp(program: string): string {
  const others = [PLAN, LOGITS, EVAL, GENERATE].map(
    (c) => `\n--- ${c.id} ---\n${heading(c, program)}\n${flagsHelp(c)}\n\n${c.output.map((l) => wrap(l, '')).join('\n')}\n`,
  )
  return [
    heading(TUNE, program),
    `Commands beside it: ${[PLAN, LOGITS, EVAL, GENERATE].map((c) => c.id).join(', ')} (below).\n`,
    flagsHelp(TUNE),
    '\nA repeated flag: the last wins; --set adds up. --flag=value works too.\n',
    'Methods:',
    methodsHelp(),
    `\n${TUNE.output.map((l) => wrap(l, '')).join('\n')}`,
    ...others,
    wrap(EXITS, ''),
    '',
  ].join('\n')
}
