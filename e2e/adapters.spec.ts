/** @file An exported adapter comes back: to be tried, and to train on from where it was; one of another model is refused. */
import { strFromU8, unzipSync, zipSync } from 'fflate'
import { downloaded, expect, expectStatus, losses, mean, open, setRun, start, test } from './studio.ts'

test('an exported adapter is loaded again, tried, and trained further', async ({ page, context }) => {
  await open(page)
  await setRun(page, { steps: 12, evalEvery: 0, prompts: '' })
  await start(page)
  await expectStatus(page, 'done')
  const first = await losses(page)
  await page.getByTestId('try-result').click()
  await page.getByTestId('export-adapter').click()
  await expect(page.getByTestId('export-diff')).toBeVisible({ timeout: 60_000 })
  const { name, bytes } = await downloaded(page, 'download')
  const files = unzipSync(bytes)
  await page.close()

  // another visit, by someone who has only the zip
  await context.clearCookies()
  const later = await context.newPage()
  await later.goto('./')
  await later.evaluate(async () => {
    localStorage.clear()
    for await (const key of (await navigator.storage.getDirectory()).keys())
      await (await navigator.storage.getDirectory()).removeEntry(key, { recursive: true })
  })
  await open(later)
  await later.getByTestId('step-try').click()
  await later.getByTestId('drop-adapter-input').setInputFiles({ name, mimeType: 'application/zip', buffer: bytes })
  await expect(later.getByTestId('adapter-info')).toContainText('lora')
  await later.getByTestId('sampling-maxTokens').fill('12')
  await later.getByTestId('generate').click()
  for (const side of ['base-output', 'tuned-output'])
    await expect(later.getByTestId(side)).toHaveAttribute('data-status', 'done', { timeout: 60_000 })
  const tuned = await later.getByTestId('tuned-output').innerText()
  expect(tuned).not.toBe(await later.getByTestId('base-output').innerText())
  // at no strength the adapter is not there
  const thumb = later.getByRole('slider', { name: /Strength/ })
  await thumb.focus()
  await thumb.press('Home')
  await expect(later.getByTestId('tuned-output')).toHaveText(await later.getByTestId('base-output').innerText(), { timeout: 60_000 })

  await later.getByTestId('continue-adapter').click()
  await expect(later.getByTestId('from-adapter')).toBeChecked()
  await setRun(later, { steps: 4, evalEvery: 0, prompts: '' })
  await start(later)
  await expectStatus(later, 'done')
  const head = (list: readonly { loss: number }[]): number => mean(list.slice(0, 4).map((r) => r.loss))
  // the same rows at the same step, by a model that has seen twelve steps: it does not start over
  expect(head(await losses(later))).toBeLessThan(0.9 * head(first))

  await later.getByTestId('try-result').click()
  // what is tried now is the run that went on from it
  await expect(later.getByTestId('tuned-source')).toHaveValue(/step 4$/)
  const path = Object.keys(files).find((f) => f.endsWith('adapter_config.json'))!
  const wrong = strFromU8(files[path]).replace(/"r": 8/, '"r": 6')
  expect(wrong).not.toBe(strFromU8(files[path]))
  const zip = Buffer.from(zipSync({ ...files, [path]: new TextEncoder().encode(wrong) }))
  await later.getByTestId('drop-adapter-input').setInputFiles({ name: 'wrong.zip', mimeType: 'application/zip', buffer: zip })
  await expect(later.getByTestId('error')).toContainText('lora_A')
})
