import { defineConfig } from 'vitest/config'

/** One process and one thread: the tests share a GPU device, and a Dawn instance may only be made once. */
export default defineConfig({
  test: {
    include: ['src/**/*.test.{ts,tsx}', 'test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    isolate: false,
    fileParallelism: false,
    maxWorkers: 1,
    testTimeout: 300_000,
  },
})
