/** @file A run survives a reload and a page that goes away: it is there with its chart, and goes on as if nothing had been. */
import { expect, expectStatus, go, losses, MINUTES, open, reach, ready, setRun, start, stepOf, test } from './studio.ts'

const STEPS = 24
const SETTINGS = { steps: STEPS, batch: 1, evalEvery: 0, checkpointEvery: 4, prompts: '' }

test('a run is resumed after a reload and after its page was closed, and ends as an undisturbed one', async ({ page, context }) => {
  test.setTimeout(5 * MINUTES)
  // leaving during a run asks first
  let asked = 0
  page.on('dialog', (d) => {
    asked++
    void d.accept()
  })
  await open(page)
  await setRun(page, SETTINGS)
  await start(page)
  await reach(page, 6)
  await page.reload()
  expect(asked).toBe(1)

  await ready(page)
  await expectStatus(page, 'paused')
  const shown = await stepOf(page)
  expect(shown).toBeGreaterThanOrEqual(4)
  expect(shown).toBeLessThan(STEPS)
  const before = await losses(page)
  expect(before.map((r) => r.step)).toEqual(Array.from({ length: shown }, (_, i) => i + 1))
  await page.getByTestId('resume').click()
  await reach(page, shown + 3)
  await page.close({ runBeforeUnload: false })

  const again = await context.newPage()
  await open(again)
  await expectStatus(again, 'paused')
  expect(await stepOf(again)).toBeGreaterThan(shown - 4)
  await expect(again.getByTestId('run-row')).toHaveCount(1)
  await again.getByTestId('resume').click()
  await expectStatus(again, 'done')
  const resumed = await losses(again)
  expect(resumed.map((r) => r.step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1))
  expect(resumed.slice(0, 4)).toEqual(before.slice(0, 4))

  // the same run, left alone: same rows, same dropout, same arithmetic
  await again.getByTestId('new-run').click()
  await start(again)
  await expectStatus(again, 'done')
  const whole = await losses(again)
  expect(whole).toHaveLength(STEPS)
  for (const [i, { loss }] of whole.entries()) expect(resumed[i].loss).toBeCloseTo(loss, 5)
  await expect(again.getByTestId('run-row')).toHaveCount(2)
})

test('choices, data and the step in view are there after a reload', async ({ page }) => {
  await open(page)
  await go(page, 'data')
  await page.getByTestId('use-sample-pirate-answers').click()
  await expect(page.getByTestId('step-data')).toContainText('pirate-answers.csv')
  await go(page, 'method')
  await page.getByTestId('method-dora').check()
  await page.getByTestId('option-r').fill('4')
  await page.getByTestId('run-lr').fill('2e-3')
  await page.getByTestId('run-lr').blur()
  await page.reload()
  await ready(page)
  await expect(page.getByTestId('method-dora')).toBeChecked()
  await expect(page.getByTestId('option-r')).toHaveValue('4')
  await expect(page.getByTestId('run-lr')).toHaveValue('0.002')
  await expect(page.getByTestId('step-data')).toContainText('pirate-answers.csv')
})
