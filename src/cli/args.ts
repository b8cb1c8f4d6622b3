/** @file Reads command-line arguments against declared flags. Whatever is wrong is an OptionError that says what was expected. */
import { OptionError } from '../errors.ts'
import type { Base, Policy } from '../train/run_config.ts'
import { accepts, type Option, type Options, parseOptions, parseText } from '../options.ts'

/** A flag whose value is any text. */
export interface TextFlag {
  readonly kind: 'text'
  /** What stands for the value in the help: "<folder>". */
  readonly value: string
  readonly help: string
  readonly required?: boolean
  readonly mayBeEmpty?: boolean
}
/** A flag without a value. */
export interface SwitchFlag {
  readonly kind: 'switch'
  readonly help: string
}
/** `--set name=value`; each use adds one. */
export interface PairsFlag {
  readonly kind: 'pairs'
  readonly help: string
}
/** A text that may be given several times. */
export interface ListFlag {
  readonly kind: 'list'
  readonly value: string
  readonly help: string
}
/** A declared option, or a flag that only the command line has. */
export type Flag = Option | TextFlag | SwitchFlag | PairsFlag | ListFlag
export type Flags = Readonly<Record<string, Flag>>

/** Flag of an option's name: weight_decay is --weight-decay. */
export const flagName = (name: string): string => `--${name.replaceAll('_', '-')}`

type Value = string | number | boolean | readonly string[] | ReadonlyMap<string, string>

/** The values given, by flag name as declared. A repeated flag: the last wins; pairs and lists add up. */
export class Args {
  constructor(
    readonly flags: Flags,
    readonly values: ReadonlyMap<string, unknown>,
  ) {}

  has(name: string): boolean {
    return this.values.has(name)
  }
  text(name: string): string | null {
    return (this.values.get(name) as string | undefined) ?? null
  }
  /** The value of a declared number, or its default. */
  number(name: string): number {
    const flag = this.flags[name]
    return (this.values.get(name) as number | undefined) ?? (flag && 'default' in flag ? (flag.default as number) : 0)
  }
  /** A text that `parseArgs` saw to be there. */
  required(name: string): string {
    return this.values.get(name) as string
  }
  switch(name: string): boolean {
    return this.values.get(name) === true
  }
  list(name: string): readonly string[] {
    return (this.values.get(name) as readonly string[] | undefined) ?? []
  }
  pairs(name: string): ReadonlyMap<string, string> {
    return (this.values.get(name) as ReadonlyMap<string, string> | undefined) ?? new Map<string, string>()
  }
  /** Those of these options that were given. */
  given(options: Options): Record<string, unknown> {
    return Object.fromEntries(Object.keys(options).flatMap((k) => (this.values.has(k) ? [[k, this.values.get(k)]] : [])))
  }
}

/** `--base`, or `--dtype` as it was called before; by default the bits of the file. */
export const baseOf = (args: Args): Base => (args.text('base') ?? args.text('dtype') ?? 'keep') as Base

/** `--policy`, or `--checkpointing` as one of them was called before. */
export const policyOf = (args: Args): Policy =>
  (args.text('policy') ?? (args.has('checkpointing') && args.switch('checkpointing') ? 'checkpoint' : 'auto')) as Policy

/** Help is asked for. */
export const wantsHelp = (argv: readonly string[]): boolean => argv.includes('--help') || argv[0] === '-h'

const isSwitch = (f: Flag): boolean => f.kind === 'switch' || f.kind === 'bool'

interface Found {
  readonly name: string
  readonly flag: Flag
  /** Written --no-name. */
  readonly negated: boolean
}
function find(flags: Flags, written: string): Found | null {
  for (const [name, flag] of Object.entries(flags)) {
    if (flagName(name) === `--${written}`) return { name, flag, negated: false }
    if (flag.kind === 'bool' && flagName(name) === `--${written.replace(/^no-/, '')}`) return { name, flag, negated: true }
  }
  return null
}

/** Throws OptionError: an unknown flag, a missing or repeated part, a value that its declaration does not allow, a stray argument. */
export function parseArgs(flags: Flags, argv: readonly string[]): Args {
  const values = new Map<string, Value>()
  const expected = `Expected: ${Object.keys(flags).map(flagName).join(', ')}`
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i]
    if (!arg.startsWith('--') || arg === '--')
      throw new OptionError(`"${arg}" is not a flag`, { where: 'arguments', fix: `${expected}. A value with spaces needs quotes` })
    const equals = arg.indexOf('=')
    const written = equals < 0 ? arg.slice(2) : arg.slice(2, equals)
    const found = find(flags, written)
    if (!found) throw new OptionError(`there is no flag --${written}`, { where: 'arguments', fix: expected })
    const { name, flag, negated } = found
    const inline = equals < 0 ? null : arg.slice(equals + 1)
    if (isSwitch(flag)) {
      if (inline !== null) throw new OptionError(`got "${inline}", expected no value`, { where: `--${written}` })
      values.set(name, !negated)
      continue
    }
    const next = argv[i + 1]
    if (inline === null && (next === undefined || /^--[a-z]/.test(next)))
      throw new OptionError(`its value is missing, expected ${describe(flag)}`, { where: `--${written}` })
    const text = inline ?? next
    if (inline === null) i++
    values.set(name, read(flag, `--${written}`, text, values.get(name)))
  }
  for (const [name, flag] of Object.entries(flags))
    if (flag.kind === 'text' && flag.required && !values.has(name))
      throw new OptionError(`it is missing, expected ${flagName(name)} ${flag.value}`, { where: flagName(name), fix: flag.help })
  return new Args(flags, values)
}

/** What a flag's value is, in words. */
export function describe(flag: Flag): string {
  switch (flag.kind) {
    case 'text':
    case 'list':
      return flag.value
    case 'pairs':
      return '<name>=<value>'
    case 'switch':
      return 'no value'
    default:
      return accepts(flag)
  }
}

function read(flag: Flag, where: string, text: string, before: Value | undefined): Value {
  switch (flag.kind) {
    case 'text':
      if (text === '' && !flag.mayBeEmpty) throw new OptionError(`it is empty, expected ${flag.value}`, { where })
      return text
    case 'switch':
      return true
    case 'list':
      return [...((before as readonly string[] | undefined) ?? []), text]
    case 'pairs': {
      const equals = text.indexOf('=')
      if (equals <= 0) throw new OptionError(`got "${text}", expected <name>=<value>`, { where })
      return new Map([
        ...((before as ReadonlyMap<string, string> | undefined) ?? []),
        [text.slice(0, equals).trim(), text.slice(equals + 1)],
      ])
    }
    default:
      return checked(flag, where, text) as Value
  }
}

/** The value of an option from text, checked against its whole declaration. Throws OptionError. */
export const checked = (option: Option, where: string, text: string): unknown =>
  parseOptions({ [where]: option }, { [where]: parseText(where, option, text) })[where]

/** Values of `--set` for declared options. Throws OptionError for names that are not declared, and for values that are not allowed. */
export function parsePairs(options: Options, pairs: ReadonlyMap<string, string>, whose: string): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [name, text] of pairs) {
    const option = Object.hasOwn(options, name) ? options[name] : undefined
    if (!option)
      throw new OptionError(`${whose} has no option "${name}"`, {
        where: '--set',
        fix: `Expected one of: ${Object.keys(options).join(', ') || '(none: it has no options)'}`,
      })
    out[name] = checked(option, `--set ${name}`, text)
  }
  return out
}
