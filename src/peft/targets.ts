/** @file Which linear layers a method acts on, by PEFT's rules. */
import { AdapterError, OptionError } from '../errors.ts'
import type { Json } from './method.ts'

export const ALL_LINEAR = 'all-linear'

/** Module paths out of `available` whose last component (or whole path, or path suffix) is named. Throws OptionError when a name matches nothing. */
export function selectTargets(wanted: readonly string[], available: readonly string[]): readonly string[] {
  if (wanted.includes(ALL_LINEAR)) return available
  const matches = (path: string, name: string) => path === name || path.endsWith(`.${name}`)
  const missing = wanted.filter((name) => !available.some((path) => matches(path, name)))
  if (missing.length > 0)
    throw new OptionError(`no layer of this model is named ${missing.join(', ')}`, {
      where: 'target_modules',
      fix: `Expected ${ALL_LINEAR} or names out of: ${suffixes(available).join(', ')}`,
    })
  return available.filter((path) => wanted.some((name) => matches(path, name)))
}

/** Last components of module paths, once each. */
export const suffixes = (paths: readonly string[]): string[] => [...new Set(paths.map((p) => p.split('.').at(-1)!))]

/** The shortest names that select exactly `paths` out of `available`: their last components, or the paths where those would select more. */
export function shortNames(paths: readonly string[], available: readonly string[]): readonly string[] {
  const names = suffixes(paths)
  const selected = available.filter((p) => names.some((n) => p.endsWith(`.${n}`)))
  return selected.length === paths.length ? names.sort() : paths
}

/** `target_modules` of a config as names; a regular expression or all-linear is kept as one name (the tensors decide what is there). */
export function configTargets(config: Json): readonly string[] {
  const t = config.target_modules
  if (Array.isArray(t) && t.length > 0 && t.every((s): s is string => typeof s === 'string')) return [...t].sort()
  return [ALL_LINEAR]
}

/** Throws when a config switches on something that this studio does not have. `off` lists the fields that must be absent, null, false or empty. */
export function requireOff(config: Json, off: readonly string[]): void {
  for (const field of off) {
    const v = config[field]
    const isOff =
      v === undefined || v === null || v === false || v === '' || v === 'none' || (typeof v === 'object' && Object.keys(v).length === 0)
    if (!isOff)
      throw new AdapterError(`${field} = ${JSON.stringify(v)} is not supported`, {
        where: 'adapter_config.json',
        why: 'the adapter would compute something else than it was trained to',
        fix: 'Merge it into its model with PEFT and load the merged model instead',
      })
  }
}

/** A finite number of a config field. */
export function numberField(config: Json, field: string, fallback?: number): number {
  const v = config[field] ?? fallback
  if (typeof v !== 'number' || !Number.isFinite(v))
    throw new AdapterError(`${field} must be a number, got ${JSON.stringify(v)}`, {
      where: 'adapter_config.json',
      fix: 'Take the file from where the adapter was trained',
    })
  return v
}
