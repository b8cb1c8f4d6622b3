/** @file Whatever was thrown, as the plain error that is shown. */
import { toWire, type WireError } from '../errors.ts'

/** Errors of the data worker carry theirs; EtudeErrors and others are made plain. */
export function wireOf(e: unknown): WireError {
  if (e instanceof Error && 'wire' in e) return e.wire as WireError
  return toWire(e)
}
