/** @file What differs between two runs, by option name. Pure. */
import type { RunConfig } from '../../train/run_config.ts'

export interface Difference {
  readonly name: string
  readonly a: string
  readonly b: string
}

const shown = (v: unknown): string =>
  v === undefined ? '–' : Array.isArray(v) ? v.join(', ') : typeof v === 'string' ? v : JSON.stringify(v)

export function configDiff(a: RunConfig, b: RunConfig): readonly Difference[] {
  const flat = (c: RunConfig): Map<string, string> =>
    new Map([
      ['method', c.method],
      ...Object.entries(c.run).map(([k, v]) => [k, shown(v)] as const),
      ...Object.entries(c.options).map(([k, v]) => [k, shown(v)] as const),
    ])
  const left = flat(a)
  const right = flat(b)
  return [...new Set([...left.keys(), ...right.keys()])]
    .map((name) => ({ name, a: left.get(name) ?? '–', b: right.get(name) ?? '–' }))
    .filter((d) => d.a !== d.b)
}
