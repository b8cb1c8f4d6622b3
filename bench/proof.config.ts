/** @file Playwright's settings for `npm run proof`: those of the browser tests, for one spec that takes as long as the training does. scripts/proof.mjs starts it. */
import { defineConfig } from '@playwright/test'
import base from '../playwright.config.ts'

const folder = process.env.ETUDE_PROOF_OUT ?? 'test-results/proof'
const port = process.env.ETUDE_E2E_PORT ?? ''
const [browser] = base.projects ?? []

export default defineConfig({
  ...base,
  testDir: '.',
  testMatch: 'proof.spec.ts',
  outputDir: `${folder}/playwright`,
  timeout: 3 * 3_600_000,
  reporter: [['line']],
  projects: browser ? [browser] : [],
  webServer: {
    command: `node ../node_modules/vite/bin/vite.js preview .. --outDir ${folder}/site --port ${port} --strictPort`,
    url: `http://127.0.0.1:${port}`,
    reuseExistingServer: false,
  },
})
