/** @file Types of the helpers that tests use; see provenance.mjs. */
export declare function provenance(packages?: readonly string[]): {
  readonly date: string
  readonly commit?: string
  readonly versions?: Readonly<Record<string, string>>
}
