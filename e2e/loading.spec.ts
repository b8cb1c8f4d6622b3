/** @file Loading weights takes minutes for large models: it shows how far it is, can be cancelled as if it had not begun, and begun again. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Page, Worker } from '@playwright/test'
import { expect, expectStatus, go, open, setRun, test } from './studio.ts'

const STARTER = resolve(import.meta.dirname, '../public/starter')
const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'].map((name) => ({
  name,
  mimeType: 'application/octet-stream',
  buffer: readFileSync(resolve(STARTER, name)),
}))

/** Opens the studio with a model whose files are on a disk as slow as `slow` says, in ms a read. */
async function openSlow(page: Page): Promise<{ slow: (ms: number) => Promise<void> }> {
  const engine = new Promise<Worker>((found) => {
    page.on('worker', (w) => {
      if (/engine/.test(w.url())) found(w)
    })
  })
  await open(page)
  const worker = await engine
  await worker.evaluate(() => {
    const { arrayBuffer } = Blob.prototype
    Blob.prototype.arrayBuffer = async function () {
      await new Promise((done) => setTimeout(done, (self as { slowness?: number }).slowness ?? 0))
      return arrayBuffer.call(this)
    }
  })
  await page.getByTestId('drop-model-input').setInputFiles(FILES)
  await expect(page.getByTestId('model-name')).not.toHaveText('starter')
  await expect(page.getByTestId('step-data')).toHaveAttribute('data-state', 'done')
  return { slow: (ms) => worker.evaluate((n) => void ((self as { slowness?: number }).slowness = n), ms) }
}

/** Cancels what loads, once it says how far it is. */
async function cancelLoading(page: Page): Promise<void> {
  const progress = page.getByTestId('progress')
  await expect(progress).toContainText(/Loading the weights · [\d.]+\s[kM]B of [\d.]+\s[kM]B/)
  await progress.getByTestId('cancel').click()
  await expect(progress).toBeHidden()
}

test('a start, a measured step, an answer and a resumed run are cancelled while weights load, and work the second time', async ({
  page,
}) => {
  const { slow } = await openSlow(page)
  await setRun(page, { steps: 3, batch: 1, lr: '2e-3', evalEvery: 0, prompts: 'Once upon a time' })
  await page.getByTestId('run-name').fill('mine')

  await slow(1000)
  await page.getByTestId('probe').click()
  await expect(page.getByTestId('start')).toBeDisabled()
  await cancelLoading(page)
  await expect(page.getByTestId('probe')).toHaveText('Measure a step')

  await page.getByTestId('start').click()
  await expect(page.getByTestId('status')).toHaveText('Preparing')
  await cancelLoading(page)
  await expect(page.getByTestId('start')).toBeEnabled()
  await expect(page.getByTestId('error')).toHaveCount(0)
  await expect(page.getByTestId('run-row')).toHaveCount(0)
  await expect(page.getByTestId('run-steps')).toHaveValue('3')
  await expect(page.getByTestId('run-name')).toHaveValue('mine')
  await expect(page.getByTestId('sample-prompts')).toHaveValue('Once upon a time')

  await go(page, 'try')
  await page.getByTestId('generate').click()
  await cancelLoading(page)
  await expect(page.getByTestId('base-output')).toHaveAttribute('data-status', 'idle')

  await slow(0)
  await go(page, 'train')
  await page.getByTestId('start').click()
  await expectStatus(page, 'done')
  await expect(page.getByTestId('run-row')).toHaveCount(1)
  await expect(page.getByRole('heading', { level: 1, name: 'mine' })).toBeVisible()
  const allocated = await page.getByTestId('allocated').innerText()
  await expect(page.getByText(`${allocated} planned`)).toBeVisible()
  await go(page, 'method')
  await expect(page.getByTestId('run-lr')).toHaveValue('0.002')
})

test('a run that is brought back can be cancelled: it waits as before, and is brought back the second time', async ({ page }) => {
  const { slow } = await openSlow(page)
  await setRun(page, { steps: 30, batch: 1, evalEvery: 0, checkpointEvery: 1, prompts: '' })
  await page.getByTestId('start-paused').click()
  await expectStatus(page, 'paused')
  await page.getByTestId('step-once').click()
  await expect(page.getByTestId('step')).toHaveText('1')
  await expectStatus(page, 'paused')
  // the same model again: nothing of the run is on the GPU any more
  await go(page, 'model')
  await page.getByTestId('drop-model-input').setInputFiles(FILES)
  await expect(page.getByTestId('progress')).toBeHidden()
  await go(page, 'train')
  await slow(1000)
  await page.getByTestId('resume').click()
  await cancelLoading(page)
  await expectStatus(page, 'paused')
  await expect(page.getByTestId('error')).toHaveCount(0)
  await slow(0)
  await page.getByTestId('step-once').click()
  await expect(page.getByTestId('step')).toHaveText('2')
})
