/** @file What goes wrong with the machine: no WebGPU, a GPU that dies in mid-run, a loss that is no number. What was reached is kept. */
import { chromium, type Browser } from '@playwright/test'
import { expect, expectStatus, go, losses, open, reach, setRun, start, test } from './studio.ts'

test.describe('without WebGPU', () => {
  for (const { name, flags } of [
    { name: 'no navigator.gpu', flags: ['--disable-blink-features=WebGPU', '--disable-features=WebGPUService'] },
    { name: 'no adapter', flags: ['--disable-gpu', '--use-webgpu-adapter=none'] },
  ])
    test(`${name}: the page says so calmly, and data can still be looked at`, async ({ launchOptions, baseURL }) => {
      const args = (launchOptions.args ?? []).filter((a) => !/webgpu/.test(a))
      const browser: Browser = await chromium.launch({ ...launchOptions, args: [...args, ...flags] })
      try {
        const page = await browser.newPage({ baseURL: baseURL ?? '' })
        const errors: string[] = []
        page.on('pageerror', (e) => errors.push(e.message))
        await page.goto('./')
        const calm = page.getByTestId('no-gpu')
        await expect(calm).toBeVisible({ timeout: 30_000 })
        await expect(calm).toContainText('Chrome')
        await expect(page.getByTestId('device-chip')).toContainText('No GPU')
        await go(page, 'data')
        await page.getByTestId('use-sample-pirate-answers').click()
        await expect(page.getByTestId('detected')).toContainText('pirate-answers.csv')
        await go(page, 'train')
        await expect(page.getByTestId('start')).toBeDisabled()
        expect(errors).toEqual([])
      } finally {
        await browser.close()
      }
    })
})

test('the GPU dies in mid-run: the run, its chart and its last checkpoint are kept, and it goes on', async ({ page, browser }) => {
  await open(page)
  await setRun(page, { steps: 500, batch: 1, evalEvery: 0, checkpointEvery: 3, prompts: '' })
  await start(page)
  await reach(page, 8)
  const session = await browser.newBrowserCDPSession()
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  const gpu = processInfo.find((p) => p.type === 'GPU')
  expect(gpu, processInfo.map((p) => p.type).join()).toBeDefined()
  process.kill(gpu?.id ?? 0, 'SIGKILL')

  await expect(page.getByTestId('device-chip')).toContainText('The GPU was lost', { timeout: 30_000 })
  await expectStatus(page, 'failed')
  await expect(page.getByTestId('error').first()).toContainText('What to do')
  const before = await losses(page)
  expect(before.length).toBeGreaterThanOrEqual(8)

  await page.reload()
  await expect(page.getByTestId('device-chip')).not.toContainText(/lost|Looking/, { timeout: 60_000 })
  await expectStatus(page, 'failed')
  expect((await losses(page)).slice(0, 6)).toEqual(before.slice(0, 6))
  await page.getByTestId('resume').click()
  await reach(page, before.length + 2)
  await page.getByTestId('stop').click()
  await expectStatus(page, 'stopped')
  const after = await losses(page)
  expect(after.map((r) => r.step)).toEqual(after.map((_, i) => i + 1))
  expect(after.slice(0, 6)).toEqual(before.slice(0, 6))
})

test('a loss that is no number ends the run with a reason; the curve and the last good adapter stay', async ({ page }) => {
  await open(page)
  // AdamW's decay multiplies each value by 1 - 100 × 10 at every step
  await go(page, 'method')
  await page.getByTestId('run-weight_decay').fill('10')
  await setRun(page, { steps: 50, batch: 1, lr: '100', evalEvery: 0, checkpointEvery: 1, prompts: '' })
  await start(page)
  await expectStatus(page, 'failed')
  const error = page.getByTestId('error')
  await expect(error).toContainText(/not a (finite )?number|non-finite|infinite|NaN/i)
  await expect(error).toContainText(/learning rate/i)
  const curve = await losses(page)
  expect(curve.length).toBeGreaterThan(0)
  expect(curve.every((r) => Number.isFinite(r.loss))).toBe(true)
  await expect(error).toContainText(/The adapter of step \d+ is kept/)
  await expect(page.getByTestId('try-result')).toBeEnabled()
  // a change comes first: the same again would break again
  await page.getByTestId('new-run').click()
  await expect(page.getByTestId('start')).toBeEnabled()
  await go(page, 'method')
  await expect(page.getByTestId('run-lr')).toHaveValue('100')
})
