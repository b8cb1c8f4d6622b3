/** @file What a reader of data files yields: rows with the line they start on, and rows that cannot be read with the reason. */
import type { JsonObject } from '../../io/json.ts'
import type { ReadOptions } from './text.ts'

export type ParsedRow =
  | { readonly line: number; readonly row: JsonObject }
  /** `count`: rows lost with it, where that is more than one. */
  | { readonly line: number; readonly bad: string; readonly excerpt: string; readonly count?: number }

export interface RowOptions extends ReadOptions {
  /** Columns that matter; formats that store columns apart read only these. Absent: all. */
  readonly columns?: readonly string[]
}

/** A parsed JSON value as a row: an object, or text by itself. */
export function asRow(value: unknown): JsonObject | string {
  if (typeof value === 'string') return { text: value }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject
  return `a row must be an object with named fields, and this is ${value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`}`
}

/** JSON.parse's message without its quote of the text, which `excerpt` shows. */
export const jsonProblem = (e: unknown): string =>
  `it is not valid JSON (${(e instanceof Error ? e.message : String(e)).replace(/, ?(\.\.\.)?"[\s\S]*" is not valid JSON$/, '')})`
