/** @file The proof run, as a person does it in the studio: a real model from its GGUF, tuned on real data, its adapter taken away. Writes what it saw for scripts/proof.mjs. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from '@playwright/test'
import { downloaded, expect, expectStatus, go, MINUTES, open, setRun, start, test } from '../e2e/studio.ts'

const env = (name: string): string => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: start this with npm run proof`)
  return value
}

async function setSwitch(page: Page, testId: string, on: boolean): Promise<void> {
  const input = page.getByTestId(testId)
  if ((await input.isChecked()) !== on) {
    await input.focus()
    await input.press('Space')
  }
  await expect(input).toBeChecked({ checked: on })
}

/** Steps and evaluations of the run, from the chart's CSV. */
async function curve(page: Page): Promise<{ evals: { step: number; loss: number }[]; ms: number[] }> {
  const { bytes } = await downloaded(page, 'chart-csv')
  const [head = '', ...lines] = bytes.toString('utf8').trim().split('\n')
  const at = (name: string): number => head.split(',').indexOf(name)
  const rows = lines.map((l) => l.split(','))
  return {
    evals: rows.filter((r) => r[at('eval_loss')]).map((r) => ({ step: Number(r[at('step')]), loss: Number(r[at('eval_loss')]) })),
    ms: rows.filter((r) => r[at('ms')]).map((r) => Number(r[at('ms')])),
  }
}

/** The table of samples: text before and after, by prompt. */
const samples = (page: Page): Promise<{ prompt: string; before: string; after: string }[]> =>
  page
    .getByTestId('samples')
    .locator('table')
    .evaluateAll((tables) =>
      tables.map((t) => {
        const cells = [...t.querySelectorAll('tbody tr')].map((row) => row.querySelectorAll('td')[1]?.textContent ?? '')
        return { prompt: t.querySelectorAll('th')[1]?.textContent ?? '', before: cells.at(0) ?? '', after: cells.at(-1) ?? '' }
      }),
    )

test('a real model is tuned on real data', async ({ page }) => {
  const out = env('ETUDE_PROOF_OUT')
  const { run, prompts } = JSON.parse(readFileSync(join(out, 'wanted.json'), 'utf8')) as {
    run: { steps: number; batch: number; seq: number; lr: number; r: number; alpha: number }
    prompts: string[]
  }
  await open(page)
  await page.getByTestId('drop-model-input').setInputFiles(env('ETUDE_PROOF_MODEL'))
  await expect(page.getByTestId('model-info')).toContainText('49,152', { timeout: 5 * MINUTES })
  await go(page, 'data')
  await page.getByTestId('drop-data-input').setInputFiles(join(out, 'rows.jsonl'))
  await expect(page.getByText('576 to train on, 64 held out')).toBeVisible({ timeout: 2 * MINUTES })
  await go(page, 'method')
  await page.getByTestId('method-lora').check()
  await page.getByTestId('option-r').fill(String(run.r))
  await page.getByTestId('option-alpha').fill(String(run.alpha))
  await setSwitch(page, 'run-shuffle', false)
  const evalEvery = Math.max(1, Math.floor(run.steps / 4))
  await setRun(page, { ...run, lr: String(run.lr), evalEvery, checkpointEvery: 0, prompts: prompts.join('\n') })
  await page.getByTestId('extra-sampleEvery').fill('0')
  await setSwitch(page, 'extra-keepBest', false)
  await start(page)
  await expectStatus(page, 'done', 170 * MINUTES)

  const { evals, ms } = await curve(page)
  const made = {
    evals,
    ms_per_step: ms.toSorted((a, b) => a - b)[ms.length >> 1],
    allocated: await page.getByTestId('allocated').innerText(),
    adapter: await page.getByTestId('device-chip').innerText(),
    samples: await samples(page),
  }
  expect(made.samples.map((s) => s.prompt)).toEqual(prompts)
  expect(evals.map((e) => e.step)).toContain(run.steps)
  writeFileSync(join(out, 'run.json'), JSON.stringify(made, null, 1))
  await page.getByTestId('try-result').click()
  await page.getByTestId('export-adapter').click()
  await expect(page.getByTestId('export-diff')).toBeVisible({ timeout: 10 * MINUTES })
  writeFileSync(join(out, 'adapter.zip'), (await downloaded(page, 'download')).bytes)
})
