/**
 * @file The first visit: the starter and its sample are there, training works without a network, and what is taken away is an adapter as PEFT has it.
 * Runs on both software drivers.
 */
import { unzipSync, strFromU8 } from 'fflate'
import { expectStatus, downloaded, expect, go, losses, mean, MINUTES, reach, ready, start, stepOf, test } from './studio.ts'

test('opens, trains, pauses, steps, resumes, stops, compares and exports, offline @swiftshader', async ({ page, context }) => {
  test.setTimeout(6 * MINUTES)
  const response = await page.goto('./')
  const policy = response?.headers()['content-security-policy'] ?? ''
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain("frame-ancestors 'none'")
  await expect(page.locator('meta[http-equiv="Content-Security-Policy"]')).toHaveAttribute('content', /default-src 'none'/)
  await ready(page)
  await expect(page.getByTestId('model-name')).toHaveText('starter')
  await expect(page.getByTestId('step-data')).toContainText('story-morals.jsonl')
  await expect(page.getByTestId('device')).toContainText('Largest buffer')
  await context.setOffline(true)

  await go(page, 'train')
  await expect(page.getByTestId('memory').first()).toContainText('Activations')
  await start(page)
  await reach(page, 5, 4 * MINUTES)
  await page.getByTestId('pause').click()
  await expectStatus(page, 'paused')
  const paused = await stepOf(page)
  await page.waitForTimeout(1500)
  expect(await stepOf(page)).toBe(paused)
  await page.getByTestId('step-once').click()
  await reach(page, paused + 1)
  await expectStatus(page, 'paused')
  expect(await stepOf(page)).toBe(paused + 1)
  await page.getByTestId('resume').click()
  await reach(page, Math.max(13, paused + 3))
  await page.getByTestId('stop').click()
  await expectStatus(page, 'stopped')

  const made = await losses(page)
  expect(made.map((r) => r.step)).toEqual(made.map((_, i) => i + 1))
  // from about 6 to about 4: half of that fall would do
  expect(mean(made.slice(-4).map((r) => r.loss))).toBeLessThan(0.83 * mean(made.slice(0, 4).map((r) => r.loss)))
  await expect(page.getByTestId('allocated')).toContainText('MB')
  await expect(page.getByTestId('eval-loss')).not.toHaveText('–')
  await expect(page.getByTestId('samples').getByText('before').first()).toBeVisible()

  await page.getByTestId('try-result').click()
  await page.getByTestId('sampling-maxTokens').fill('16')
  await page.getByTestId('generate').click()
  for (const side of ['base-output', 'tuned-output'])
    await expect(page.getByTestId(side)).toHaveAttribute('data-status', 'done', { timeout: 2 * MINUTES })
  expect(await page.getByTestId('tuned-output').innerText()).not.toBe(await page.getByTestId('base-output').innerText())

  await page.getByTestId('export-adapter').click()
  await expect(page.getByTestId('export-diff')).toBeVisible({ timeout: 2 * MINUTES })
  expect(Number(await page.getByTestId('export-diff').innerText())).toBeLessThanOrEqual(1e-4)
  const { name, bytes } = await downloaded(page, 'download')
  expect(name).toMatch(/^story-morals-lora-1.*\.zip$/)
  expectAdapter(unzipSync(bytes), made.at(-1)!.step)
})

/** An adapter folder as PEFT reads it, of a LoRA run of so many steps. */
function expectAdapter(files: Record<string, Uint8Array>, steps: number): void {
  const entry = (end: string): Uint8Array => {
    const path = Object.keys(files).find((f) => f.endsWith(end))
    expect(path, `${end} among ${Object.keys(files).join(', ')}`).toBeDefined()
    return files[path!]
  }
  const json = (end: string) => JSON.parse(strFromU8(entry(end))) as Record<string, unknown>

  expect(json('adapter_config.json')).toMatchObject({ peft_type: 'LORA', r: 8, task_type: 'CAUSAL_LM' })

  const tensors = entry('adapter_model.safetensors')
  const length = Number(new DataView(tensors.buffer, tensors.byteOffset, 8).getBigUint64(0, true))
  const header = JSON.parse(strFromU8(tensors.subarray(8, 8 + length))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  const entries = Object.entries(header).filter(([key]) => key !== '__metadata__')
  expect(entries.length).toBeGreaterThan(0)
  for (const [key, { dtype, shape }] of entries) {
    expect(key).toMatch(/^base_model\.model\.model\.layers\.\d+\.\w+\.\w+_proj\.lora_[AB]\.weight$/)
    expect(dtype).toBe('F32')
    expect(shape[key.includes('lora_A') ? 0 : 1]).toBe(8)
  }
  const values = new Float32Array(tensors.slice(8 + length).buffer)
  expect(Math.max(...entries.map(([, t]) => t.data_offsets[1]))).toBe(values.byteLength)
  expect(values.every(Number.isFinite)).toBe(true)
  // lora_B begins at zero: it was trained
  const [, b] = entries.find(([key]) => key.includes('lora_B'))!
  expect(values.subarray(b.data_offsets[0] / 4, b.data_offsets[1] / 4).some((v) => v !== 0)).toBe(true)

  expect(strFromU8(entry('README.md'))).toContain('starter')
  const run = json('etude_run.json') as { config: { method: string }; data: { sha256: string }; steps: { loss: number }[] }
  expect(run.config.method).toBe('lora')
  expect(run.data.sha256).toMatch(/^[0-9a-f]{64}$/)
  expect(run.steps).toHaveLength(steps)
}
