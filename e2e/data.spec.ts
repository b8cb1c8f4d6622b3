/** @file The data step: every format is recognised with its reason, columns can be mapped, bad rows are named, and what is trained is what is shown. */
import { parquetWriteBuffer } from 'hyparquet-writer'
import { expect, go, MINUTES, open, pick, test } from './studio.ts'

const file = (name: string, content: string | Buffer) => ({
  name,
  mimeType: 'application/octet-stream',
  buffer: Buffer.isBuffer(content) ? content : Buffer.from(content),
})
const lines = (...rows: unknown[]): string => rows.map((r) => JSON.stringify(r)).join('\n')
const parquet = (): Buffer =>
  Buffer.from(
    parquetWriteBuffer({
      columnData: [
        { name: 'prompt', data: ['Who says meow?', 'Who says moo?'], type: 'STRING' },
        { name: 'completion', data: ['A cat.', 'A cow.'], type: 'STRING' },
      ],
    }),
  )
const turns = (a: string, b: string, role: string, content: string) => [
  { [role]: a, [content]: 'Who says meow?' },
  { [role]: b, [content]: 'A cat.' },
]

/** File, the format's name on the page, and a part of the reason. */
const FORMATS = [
  [file('a.jsonl', lines({ instruction: 'Who says meow?', output: 'A cat.' })), 'instruction, input, output', /instruction/],
  [file('b.json', JSON.stringify([{ prompt: 'Who says meow?', completion: 'A cat.' }])), 'prompt, completion', /completion/],
  [file('c.csv', 'question,answer\nWho says meow?,A cat.\nWho says moo?,A cow.\n'), 'prompt, completion', /question.*answer/],
  [file('d.tsv', 'prompt\tcompletion\nWho says meow?\tA cat.\n'), 'prompt, completion', /completion/],
  [file('e.parquet', parquet()), 'prompt, completion', /completion/],
  [file('f.txt', 'Once upon a time there was a cat.\n'), 'plain text', /text/],
  [file('g.jsonl', lines({ messages: turns('user', 'assistant', 'role', 'content') })), 'messages (OpenAI)', /messages/],
  [file('h.jsonl', lines({ conversations: turns('human', 'gpt', 'from', 'value') })), 'conversations (ShareGPT)', /conversations/],
  [file('i.jsonl', lines({ input_ids: [5, 6, 7, 8], labels: [-100, -100, 7, 8] })), 'tokenised rows', /input_ids/],
] as const

test('every format is recognised, with the reason, and shows what is trained', async ({ page }) => {
  await open(page)
  await go(page, 'data')
  for (const [given, name, reason] of FORMATS) {
    await page.getByTestId('drop-data-input').setInputFiles(given)
    const detected = page.getByTestId('detected')
    await expect(detected).toContainText(given.name)
    await expect(detected).toContainText(name)
    await expect(detected).toContainText(reason)
    if (/messages|conversations/.test(name)) {
      // the starter is a base model without a template: one is chosen
      await expect(page.getByTestId('error')).toContainText('no chat template')
      await page.getByTestId('use-chatml').click()
      await expect(page.getByTestId('tokens')).toContainText('assistant')
    }
    await expect(page.getByTestId('tokens').locator('[data-trained]').first()).toBeVisible()
    await expect(page.getByTestId('next')).toBeEnabled()
  }
})

test('a chat template chosen for the rows is the one that prompts are written with', async ({ page }) => {
  await open(page)
  await go(page, 'try')
  // The starter has no template of its own: there is nothing to switch on.
  await expect(page.getByTestId('prompt')).toBeVisible()
  await expect(page.getByTestId('chat')).toHaveCount(0)
  await go(page, 'data')
  await page
    .getByTestId('drop-data-input')
    .setInputFiles(file('chat.jsonl', lines({ messages: turns('user', 'assistant', 'role', 'content') })))
  await page.getByTestId('use-chatml').click()
  await expect(page.getByTestId('tokens')).toContainText('assistant')
  await go(page, 'try')
  await expect(page.getByTestId('chat')).toBeChecked()
  await expect(page.getByText('through the template that the rows are written with')).toBeVisible()
  await page.getByTestId('prompt').fill('Who says moo?')
  await page.getByTestId('generate').click()
  await expect(page.getByTestId('base-output')).toHaveAttribute('data-status', 'done', { timeout: 3 * MINUTES })
})

test('a file can be dropped, its columns mapped, and the preview shows exactly what is trained', async ({ page }) => {
  await open(page)
  await go(page, 'data')
  // a drag from the desktop, as far as a script can make one
  const transfer = await page.evaluateHandle(() => {
    const t = new DataTransfer()
    t.items.add(new File(['n,u,v\n1,Who says meow?,A cat.\n2,Who says moo?,A cow.\n'], 'odd.csv', { type: 'text/csv' }))
    return t
  })
  await page.getByTestId('drop-data').dispatchEvent('drop', { dataTransfer: transfer })
  await expect(page.getByTestId('detected')).toContainText('odd.csv')
  // no column has a name that says what it is: the form is there at once
  await pick(page, 'map-format', 'prompt, completion')
  await pick(page, 'map-prompt', 'u')
  await pick(page, 'map-completion', 'v')
  await page.getByTestId('map-apply').click()
  await expect(page.getByTestId('detected')).toContainText('chosen by you')
  const tokens = page.getByTestId('tokens')
  await expect(tokens).toContainText('Who says meow?')
  const texts = (selector: string): Promise<string> =>
    tokens.locator(selector).evaluateAll((spans) => spans.map((s) => s.textContent).join(''))
  await expect.poll(() => texts('span:not([data-trained])')).toBe('<|endoftext|>Who says meow?')
  expect(await texts('[data-trained]')).toContain('A cat.')
  // the end-of-text token is trained, or the model never learns to stop
  await expect(tokens.locator('[data-trained][data-special]')).toHaveCount(1)
  await page.getByTestId('row-next').click()
  await expect.poll(() => texts('[data-trained]')).toContain('A cow.')

  await pick(page, 'loss-on', 'every token')
  await expect.poll(() => texts('[data-trained]')).toContain('Who says moo?')
})

test('rows that cannot be used are named with line and reason; the rest train', async ({ page }) => {
  await open(page)
  await go(page, 'data')
  const good = { prompt: 'Who says meow?', completion: 'A cat.' }
  const rows = [JSON.stringify(good), '{"prompt": "broken', JSON.stringify({ ...good, prompt: 'Who?' }), '{"prompt": "no answer"}', '17']
  await page.getByTestId('drop-data-input').setInputFiles(file('mixed.jsonl', rows.join('\n')))
  await expect(page.getByTestId('counts')).toContainText('5 read · 2 used')
  const bad = page.getByTestId('bad-rows')
  for (const line of [2, 4, 5]) await expect(bad).toContainText(`mixed.jsonl, line ${line}`)
  await expect(bad).toContainText('{"prompt": "broken')
  await expect(page.getByTestId('next')).toBeEnabled()
})

test('data without a token to train refuses to start, and a file of no known kind leaves what was there', async ({ page }) => {
  await open(page)
  await go(page, 'data')
  await page.getByTestId('drop-data-input').setInputFiles(file('none.jsonl', lines({ input_ids: [5, 6, 7], labels: [-100, -100, -100] })))
  await expect(page.getByTestId('error')).toContainText('no trained token')
  await expect(page.getByTestId('error')).toContainText('none.jsonl, line 1')
  await expect(page.getByTestId('next')).toBeDisabled()
  await go(page, 'train')
  await expect(page.getByTestId('error')).toContainText('no trained token')
  await expect(page.getByTestId('start')).toBeDisabled()
  await go(page, 'data')
  await page.getByTestId('use-sample').click()
  await expect(page.getByTestId('counts')).toContainText('350 used')
  await page.getByTestId('drop-data-input').setInputFiles(file('picture.png', Buffer.from('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1')))
  await expect(page.getByTestId('error')).toContainText('picture.png')
  await expect(page.getByTestId('counts')).toContainText('350 used')
})
