import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Processes, as a Dawn instance may only be made once in one: each keeps its GPU device for all of its files. A software driver compiles on one core: two
 * processes keep two busy. */
export default defineConfig({
  test: {
    include: ['src/**/*.test.{ts,tsx}', 'test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    pool: 'forks',
    isolate: false,
    maxWorkers: Math.min(2, availableParallelism()),
    testTimeout: 300_000,
  },
})
