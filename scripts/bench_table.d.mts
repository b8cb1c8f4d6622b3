/** @file Types of the bench's tables; see bench_table.mjs. */
import type { Row } from '../bench/report.ts'
export declare function benchTables(rows: readonly Row[]): string
