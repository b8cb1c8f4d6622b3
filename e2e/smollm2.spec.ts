/** @file A real language model in the tab: a 98 MB GGUF is loaded, answers as Transformers does, and is trained on. */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, expectStatus, go, losses, MINUTES, open, setRun, start, test } from './studio.ts'

const FOLDER = resolve(import.meta.dirname, '../../shared/models/smollm2-135m-instruct')
const DATA = resolve(import.meta.dirname, '../../shared/data/devils-dictionary.sft.jsonl')
const lavapipe = process.env.ETUDE_CHROMIUM_LVP !== undefined

test('SmolLM2-135M-Instruct: loaded from its GGUF, greedy text as Transformers, LoRA steps, a checked export', async ({ page }) => {
  test.skip(!existsSync(FOLDER) || !existsSync(DATA), 'SmolLM2 and its data are not beside this checkout (../shared)')
  test.skip(!lavapipe, 'SwiftShader takes minutes for a step of a model of this size: needs a Chromium on lavapipe')
  test.setTimeout(8 * MINUTES)
  const golden = JSON.parse(readFileSync(resolve(FOLDER, 'golden.json'), 'utf8')) as {
    greedy: { user: string; ids: number[]; text: string }[]
  }
  const wanted = golden.greedy.find((g) => g.user === 'What is the capital of France?')
  expect(wanted).toBeDefined()

  await open(page)
  await page.getByTestId('drop-model-input').setInputFiles(resolve(FOLDER, 'SmolLM2-135M-Instruct.Q4_1.gguf'))
  await expect(page.getByTestId('model-info')).toContainText('Q4_1', { timeout: 2 * MINUTES })
  await expect(page.getByTestId('model-info')).toContainText('49,152')
  await page.getByRole('button', { name: 'Show the chat template' }).click()
  await expect(page.getByLabel('Chat template')).toContainText('<|im_start|>')

  // answers before it is tuned
  await go(page, 'try')
  await page.getByTestId('prompt').fill(wanted?.user ?? '')
  await expect(page.getByTestId('chat')).toBeChecked()
  await page.getByTestId('generate').click()
  const base = page.getByTestId('base-output')
  await expect(base).toHaveAttribute('data-status', 'done', { timeout: 3 * MINUTES })
  await expect(base).toHaveText(wanted?.text.replace('<|im_end|>', '') ?? '')

  // a few rows of real data, through the model's own template
  const rows = readFileSync(DATA, 'utf8').split('\n').slice(0, 12).join('\n')
  await go(page, 'data')
  await page.getByTestId('drop-data-input').setInputFiles({ name: 'devil.jsonl', mimeType: 'application/json', buffer: Buffer.from(rows) })
  await expect(page.getByTestId('detected')).toContainText('instruction')
  await expect(page.getByTestId('tokens').locator('[data-trained][data-special]', { hasText: '<|im_end|>' })).toHaveCount(1)
  await expect(page.getByTestId('tokens').locator('[data-trained]').last()).toHaveText(/^↵/)
  // the same rows again and again: three steps are enough to see them learned
  await setRun(page, { steps: 4, batch: 2, seq: 96, lr: '3e-3', evalEvery: 0, prompts: '' })
  await start(page)
  await expectStatus(page, 'done', 5 * MINUTES)
  const made = await losses(page)
  expect(made).toHaveLength(4)
  expect(made.every((r) => Number.isFinite(r.loss) && r.loss > 0)).toBe(true)
  expect(made[3]?.loss).toBeLessThan(made[0]?.loss ?? 0)

  await page.getByTestId('try-result').click()
  await page.getByTestId('export-adapter').click()
  await expect(page.getByTestId('export-diff')).toBeVisible({ timeout: 3 * MINUTES })
  expect(Number(await page.getByTestId('export-diff').innerText())).toBeLessThanOrEqual(1e-3)
})
