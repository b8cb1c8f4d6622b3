import { defineConfig } from 'vitest/config'

/** Two processes, each with one device for all of its files: compiling kernels takes most of the time and one core. Threads would not do: a process may only make one Dawn instance. */
export default defineConfig({
  test: {
    include: ['src/**/*.test.{ts,tsx}', 'test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    isolate: false,
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 300_000,
  },
})
