/** @file Declared options: one declaration gives the type, the default, the check, the form, the CLI flag and the docs row. */
import { OptionError } from './errors.ts'

type When = (o: Readonly<Record<string, unknown>>) => boolean
interface Meta<K extends string, T> {
  readonly kind: K
  readonly label: string
  readonly help: string
  readonly default: T
  /** Shown only when true; the value is kept and checked all the same. */
  readonly when?: When
  /** Shown under "more options". */
  readonly advanced?: boolean
}
export interface IntOption extends Meta<'int', number> {
  readonly min: number
  readonly max: number
}
export interface FloatOption extends Meta<'float', number> {
  readonly min: number
  readonly max: number
  readonly step: number
}
export type BoolOption = Meta<'bool', boolean>
export interface ChoiceOption<T extends string> extends Meta<'choice', T> {
  readonly choices: readonly T[]
}
/** A list of names, written comma-separated; `suggestions` feed the form. */
export interface NamesOption extends Meta<'names', readonly string[]> {
  readonly suggestions: readonly string[]
}
export type Option = IntOption | FloatOption | BoolOption | ChoiceOption<string> | NamesOption
export type Options = Readonly<Record<string, Option>>
export type Values<O extends Options> = {
  readonly [K in keyof O]: O[K] extends ChoiceOption<infer T>
    ? T
    : O[K] extends NamesOption
      ? readonly string[]
      : O[K] extends BoolOption
        ? boolean
        : number
}

export const int = (o: Omit<IntOption, 'kind'>): IntOption => ({ kind: 'int', ...o })
export const float = (o: Omit<FloatOption, 'kind'>): FloatOption => ({ kind: 'float', ...o })
export const bool = (o: Omit<BoolOption, 'kind'>): BoolOption => ({ kind: 'bool', ...o })
export const choice = <T extends string>(o: Omit<ChoiceOption<T>, 'kind'>): ChoiceOption<T> => ({ kind: 'choice', ...o })
export const names = (o: Omit<NamesOption, 'kind'>): NamesOption => ({ kind: 'names', ...o })

export const defaults = <O extends Options>(options: O): Values<O> =>
  Object.fromEntries(Object.entries(options).map(([k, o]) => [k, o.default])) as Values<O>

/** What an option accepts, in words: for messages and `--help`. */
export function accepts(o: Option): string {
  switch (o.kind) {
    case 'int':
      return `a whole number from ${o.min} to ${o.max}`
    case 'float':
      return `a number from ${o.min} to ${o.max}`
    case 'bool':
      return 'true or false'
    case 'choice':
      return `one of ${o.choices.join(', ')}`
    case 'names':
      return 'a comma-separated list of names'
  }
}

/** The value of one option from text (a CLI flag, a URL). Throws OptionError. */
export function parseText(name: string, o: Option, text: string): unknown {
  const bad = (): never => {
    throw new OptionError(`got "${text}", expected ${accepts(o)}`, { where: name })
  }
  switch (o.kind) {
    case 'int':
    case 'float': {
      const v = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : NaN
      return Number.isFinite(v) ? v : bad()
    }
    case 'bool':
      return text === 'true' ? true : text === 'false' ? false : bad()
    case 'choice':
      return o.choices.includes(text) ? text : bad()
    case 'names': {
      const list = text.split(',').map((s) => s.trim())
      return list.every(Boolean) ? list : bad()
    }
  }
}

const isValid = (o: Option, v: unknown): boolean => {
  switch (o.kind) {
    case 'int':
      return typeof v === 'number' && Number.isInteger(v) && v >= o.min && v <= o.max
    case 'float':
      return typeof v === 'number' && Number.isFinite(v) && v >= o.min && v <= o.max
    case 'bool':
      return typeof v === 'boolean'
    case 'choice':
      return o.choices.includes(v as string)
    case 'names':
      return Array.isArray(v) && v.length > 0 && v.every((s) => typeof s === 'string' && s.length > 0)
  }
}

/** Check untrusted values (a URL, a config file, a form) against their declaration; absent ones take their default. Throws OptionError. */
export function parseOptions<O extends Options>(options: O, input: Readonly<Record<string, unknown>>): Values<O> {
  for (const k of Object.keys(input))
    if (!Object.hasOwn(options, k))
      throw new OptionError(`unknown option`, {
        where: k,
        fix: `Expected one of: ${Object.keys(options).join(', ') || '(this has no options)'}`,
      })
  return Object.fromEntries(
    Object.entries(options).map(([k, o]) => {
      const v = input[k] ?? o.default
      if (!isValid(o, v)) throw new OptionError(`got ${JSON.stringify(v)}, expected ${accepts(o)}`, { where: k })
      return [k, v]
    }),
  ) as Values<O>
}
