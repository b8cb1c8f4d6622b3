/**
 * @file What the browser tests share: a page under watch (no request to another origin, no breach of the Content-Security-Policy, no uncaught error),
 * and what a person does on it, by the test ids that src/ui/App.tsx lists.
 */
import { test as base, expect, type BrowserContext, type Locator, type Page } from '@playwright/test'

/** Minutes, in ms: the software drivers are slow, and slower still on a busy machine. */
export const MINUTES = 60_000

interface Watch {
  /** Requests to other origins than the studio's, as "METHOD address". */
  readonly foreign: string[]
  /** Uncaught errors and breaches of the policy. */
  readonly faults: string[]
}
interface Options {
  /** Origins that a test lets the page ask, because its person asked for a hub model. */
  allowed: readonly string[]
}

/** Records what must not happen in a context, and lets no foreign request through that is not allowed. */
async function watchContext(context: BrowserContext, own: string, allowed: readonly string[]): Promise<Watch> {
  const watch: Watch = { foreign: [], faults: [] }
  const origins = new Set([new URL(own).origin, ...allowed])
  const inside = (url: string): boolean => /^(blob|data):/.test(url) || origins.has(new URL(url).origin)
  context.on('request', (r) => {
    if (!inside(r.url())) watch.foreign.push(`${r.method()} ${r.url()}`)
  })
  context.on('console', (m) => {
    if (/content security policy/i.test(m.text())) watch.faults.push(m.text())
  })
  // a worker's breach is told to the worker alone
  context.on('page', (page) =>
    page.on('worker', (worker) => {
      const listen = (): void =>
        self.addEventListener('securitypolicyviolation', (e) =>
          console.error(`content security policy: ${e.violatedDirective} ${e.blockedURI}`),
        )
      worker.evaluate(listen).catch(() => undefined)
    }),
  )
  context.on('weberror', (e) => {
    watch.faults.push(e.error().stack ?? e.error().message)
  })
  await context.route(
    (url) => !inside(url.href),
    (route) => route.abort(),
  )
  return watch
}

export const test = base.extend<Options & { watch: Watch }>({
  allowed: [[], { option: true }],
  watch: [
    async ({ context, baseURL, allowed }, use) => {
      const watch = await watchContext(context, baseURL ?? '', allowed)
      await use(watch)
      expect(watch.foreign, 'requests to other origins').toEqual([])
      expect(watch.faults, 'uncaught errors and policy violations').toEqual([])
    },
    { auto: true },
  ],
})
export { expect }

/** Opens the studio and waits for its GPU, its model and its data. */
export async function open(page: Page): Promise<void> {
  await page.goto('./')
  await ready(page)
}
export async function ready(page: Page): Promise<void> {
  await expect(page.getByTestId('step-model')).toHaveAttribute('data-state', 'done', { timeout: 2 * MINUTES })
  await expect(page.getByTestId('step-data')).toHaveAttribute('data-state', 'done', { timeout: 2 * MINUTES })
}

export const go = (page: Page, step: 'model' | 'data' | 'method' | 'train' | 'try'): Promise<void> =>
  page.getByTestId(`step-${step}`).click()

/** Chooses an option of a select by its test id. */
export async function pick(page: Page, testId: string, option: string): Promise<void> {
  await page.getByTestId(testId).click()
  await page.getByRole('option', { name: option, exact: true }).click()
}

interface RunChoices {
  readonly steps: number
  readonly batch?: number
  readonly seq?: number
  readonly lr?: string
  readonly evalEvery?: number
  readonly checkpointEvery?: number
  /** One a line; empty: none. */
  readonly prompts?: string
}

/** Sets what a run is made of, ending on the Train step. */
export async function setRun(page: Page, o: RunChoices): Promise<void> {
  if (o.batch !== undefined || o.seq !== undefined || o.lr !== undefined) {
    await go(page, 'method')
    if (o.batch !== undefined) await page.getByTestId('run-batch').fill(String(o.batch))
    if (o.seq !== undefined) await page.getByTestId('run-seq').fill(String(o.seq))
    if (o.lr !== undefined) await page.getByTestId('run-lr').fill(o.lr)
  }
  await go(page, 'train')
  await page.getByTestId('run-steps').fill(String(o.steps))
  if (o.evalEvery !== undefined) await page.getByTestId('extra-evalEvery').fill(String(o.evalEvery))
  if (o.checkpointEvery !== undefined) await page.getByTestId('extra-checkpointEvery').fill(String(o.checkpointEvery))
  if (o.prompts !== undefined) {
    await page.getByTestId('sample-prompts').fill(o.prompts)
    await page.getByTestId('sample-prompts').blur()
  }
}

/** Starts the run that is set; resolves once its screen is there. */
export async function start(page: Page, button: 'start' | 'start-paused' = 'start'): Promise<void> {
  await expect(page.getByTestId(button)).toBeEnabled({ timeout: MINUTES })
  await page.getByTestId(button).click()
  await expect(page.getByTestId('status')).toBeVisible()
}

export const status = (page: Page): Locator => page.getByTestId('status')
export const expectStatus = (
  page: Page,
  wanted: 'running' | 'paused' | 'stopped' | 'done' | 'failed',
  timeout = 4 * MINUTES,
): Promise<void> => expect(status(page)).toHaveAttribute('data-status', wanted, { timeout })

/** Optimizer steps that the shown run has made. */
export const stepOf = async (page: Page): Promise<number> => Number((await page.getByTestId('step').innerText()).replace(/,/g, ''))
/** Waits until the shown run has made so many steps. */
export const reach = (page: Page, step: number, timeout = 2 * MINUTES): Promise<void> =>
  expect.poll(() => stepOf(page), { timeout, intervals: [100] }).toBeGreaterThanOrEqual(step)

/** The bytes of what a click downloads, and its name. */
export async function downloaded(page: Page, testId: string): Promise<{ readonly name: string; readonly bytes: Buffer }> {
  const waiting = page.waitForEvent('download')
  await page.getByTestId(testId).click()
  const download = await waiting
  const chunks: Buffer[] = []
  for await (const chunk of await download.createReadStream()) chunks.push(chunk as Buffer)
  return { name: download.suggestedFilename(), bytes: Buffer.concat(chunks) }
}

/** The loss of each step, as the chart's CSV has it. */
export async function losses(page: Page): Promise<{ readonly step: number; readonly loss: number }[]> {
  const { bytes } = await downloaded(page, 'chart-csv')
  const [head = '', ...lines] = bytes.toString('utf8').trim().split('\n')
  const columns = head.split(',')
  const at = columns.indexOf('loss')
  expect(columns.indexOf('step'), `columns of the CSV: ${head}`).toBe(0)
  expect(at, `columns of the CSV: ${head}`).toBeGreaterThan(0)
  return lines.map((l) => ({ step: Number(l.split(',')[0]), loss: Number(l.split(',')[at]) })).filter((r) => r.step > 0)
}
export const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length
