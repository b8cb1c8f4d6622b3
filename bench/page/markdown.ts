/** @file Markdown and numbers of the results page. */

const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`
/** A Markdown table; the columns after the first `texts` are numbers, and set to the right. */
export const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[], texts = 1): string =>
  [line(head), line(head.map((_, i) => (i < texts ? '---' : '--:'))), ...rows.map(line)].join('\n')

/** What a cell holds where there is nothing to say. */
export const NONE = '–'
/** A number as text, or NONE. */
export const number = (value: number | null | undefined, digits = 0): string => (typeof value === 'number' ? value.toFixed(digits) : NONE)
export const megabytes = (bytes: number | null | undefined): string => number(typeof bytes === 'number' ? bytes / 1e6 : null)
/** How many times as fast: a / b, or NONE where one of them is missing. */
export const times = (a: number | undefined, b: number | undefined): string => (a && b ? (a / b).toFixed(1) : NONE)

/** "36.0 to 46.7", or one number where they are the same. */
export function range(values: readonly number[], digits = 1): string {
  const [low, high] = [Math.min(...values).toFixed(digits), Math.max(...values).toFixed(digits)]
  return low === high ? low : `${low} to ${high}`
}

/** Values in groups of one key, in the order in which keys come first. */
export function grouped<T>(values: readonly T[], keyOf: (value: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>()
  for (const value of values) groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value])
  return groups
}
