/** @file Errors a person can act on. Imports nothing; everyone may import it. */

export interface ErrorDetail {
  /** File, line, field, tensor or option the problem is in. */
  readonly where?: string
  /** Why it matters. */
  readonly why?: string
  /** What to do about it. */
  readonly fix?: string
}

const sentence = (s: string | undefined): string => (s ? (/[.!?:]$/.test(s) ? s : `${s}.`) : '')

/** An error that says what is wrong, where, why it matters and what to do. Its fields survive `toWire`. */
export class EtudeError extends Error {
  override readonly name: string = 'EtudeError'
  readonly where: string | undefined
  readonly why: string | undefined
  readonly fix: string | undefined
  constructor(
    readonly what: string,
    detail: ErrorDetail = {},
  ) {
    super(
      [detail.where ? `${detail.where}: ${sentence(what)}` : sentence(what), sentence(detail.why), sentence(detail.fix)]
        .filter(Boolean)
        .join(' '),
    )
    this.where = detail.where
    this.why = detail.why
    this.fix = detail.fix
  }
}

/** A file that cannot be used: truncated, lying about itself, of an unknown kind. */
export class FileError extends EtudeError {
  override readonly name = 'FileError'
}
/** Data rows or a data set that cannot be trained on. */
export class DataError extends EtudeError {
  override readonly name = 'DataError'
}
/** A model whose configuration, tensors or tokenizer do not fit together. */
export class ModelError extends EtudeError {
  override readonly name = 'ModelError'
}
/** An adapter that does not fit the model, or is not one. */
export class AdapterError extends EtudeError {
  override readonly name = 'AdapterError'
}
/** An option or argument whose value is outside what its declaration allows. */
export class OptionError extends EtudeError {
  override readonly name = 'OptionError'
}
/** The GPU is missing, too small, refused an allocation or went away. */
export class GpuError extends EtudeError {
  override readonly name = 'GpuError'
}
/** A run that cannot start or go on: nothing to train, a non-finite loss. */
export class RunError extends EtudeError {
  override readonly name = 'RunError'
}

/** An error as plain data: `instanceof` does not survive a structured clone. */
export interface WireError extends ErrorDetail {
  readonly name: string
  readonly message: string
  readonly what: string
}

export function toWire(e: unknown): WireError {
  if (e instanceof EtudeError) {
    const { name, message, what, where, why, fix } = e
    return { name, message, what, ...(where && { where }), ...(why && { why }), ...(fix && { fix }) }
  }
  const message = e instanceof Error ? e.message : String(e)
  return { name: e instanceof Error ? e.name : 'Error', message, what: message }
}
