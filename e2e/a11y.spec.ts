/** @file The page for everybody: no rule of axe is broken at any step in either colour scheme, the keyboard is enough, and a phone needs no sideways scroll. */
import AxeBuilder from '@axe-core/playwright'
import type { Page } from '@playwright/test'
import { expect, expectStatus, go, open, setRun, start, test } from './studio.ts'

const STEPS = ['model', 'data', 'method', 'train', 'try'] as const

/** What axe finds on the page as it is, one line a rule and element. */
async function violations(page: Page): Promise<string[]> {
  // a card that is still fading in has no contrast yet
  await page.evaluate(() => Promise.all(document.getAnimations().map((a) => a.finished.catch(() => undefined))))
  const { violations: found } = await new AxeBuilder({ page }).analyze()
  return found.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(' ')} (${n.failureSummary ?? ''})`))
}

test('axe finds nothing on any step, light or dark, before and after a run', async ({ page }) => {
  test.setTimeout(300_000)
  await open(page)
  const look = async (when: string): Promise<void> => {
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' })
      await expect(page.locator('html')).toHaveAttribute('data-mantine-color-scheme', scheme)
      for (const step of when === 'before' ? STEPS : (['train', 'try'] as const)) {
        await go(page, step)
        expect(await violations(page), `${step}, ${scheme}, ${when}`).toEqual([])
      }
    }
  }
  await look('before')
  await setRun(page, { steps: 3, batch: 1, evalEvery: 1, prompts: '' })
  await start(page)
  await expectStatus(page, 'done')
  await page.getByTestId('chart-table-toggle').click()
  await go(page, 'try')
  await page.getByTestId('export-adapter').click()
  await expect(page.getByTestId('export-diff')).toBeVisible({ timeout: 60_000 })
  await look('after')
})

test('the keyboard alone goes through the steps and starts a run', async ({ page }) => {
  await open(page)
  const press = async (testId: string, key: 'Enter' | ' ' = 'Enter'): Promise<void> => {
    const target = page.getByTestId(testId)
    await expect(target).toBeEnabled()
    for (let i = 0; i < 80; i++) {
      if (await target.evaluate((e) => e === document.activeElement)) {
        // what has the focus shows it
        const shown = await target.evaluate((e) => {
          const s = getComputedStyle(e)
          return s.outlineStyle !== 'none' || s.boxShadow !== 'none' || e.matches('input[type=radio]')
        })
        expect(shown, `${testId} shows its focus`).toBe(true)
        await page.keyboard.press(key)
        return
      }
      await page.keyboard.press('Tab')
    }
    throw new Error(`${testId} was not reached with the Tab key`)
  }
  // the first thing is the way past the navigation
  await page.keyboard.press('Tab')
  await expect(page.locator('a.skip')).toBeFocused()
  await press('next')
  await expect(page.getByRole('heading', { level: 1, name: 'Data' })).toBeFocused()
  await press('next')
  await expect(page.getByRole('heading', { level: 1, name: 'Method' })).toBeFocused()
  await press('method-lora', ' ')
  await page.keyboard.press('ArrowDown')
  await expect(page.getByTestId('method-dora')).toBeChecked()
  await page.keyboard.press('ArrowUp')
  await expect(page.getByTestId('method-lora')).toBeChecked()
  await page.getByRole('heading', { level: 1 }).focus()
  await page.keyboard.press('Shift+Tab')
  await go(page, 'method')
  await press('next')
  await expect(page.getByRole('heading', { level: 1, name: 'Train' })).toBeFocused()
  await press('start-paused')
  await expectStatus(page, 'paused')
  await press('stop')
  await expectStatus(page, 'stopped')
  // reading the chart needs no pointer
  await page.getByTestId('step-try').focus()
  await page.keyboard.press('Enter')
  await expect(page.getByRole('heading', { level: 1, name: 'Try and export' })).toBeFocused()
})

test('a phone needs no sideways scroll on any step', async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 844 })
  await open(page)
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  for (const step of STEPS) {
    await go(page, step)
    await expect.poll(wide, { message: step }).toBeLessThanOrEqual(0)
  }
  await setRun(page, { steps: 2, batch: 1, evalEvery: 0, prompts: '' })
  await start(page)
  await expectStatus(page, 'done')
  await expect.poll(wide, { message: 'a run' }).toBeLessThanOrEqual(0)
})
