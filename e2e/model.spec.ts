/** @file The model step: files that are no model say why and cost nothing; a folder loads; a hub id is fetched, cancelled, resumed and kept, its token is not. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Page, Route } from '@playwright/test'
import { expect, go, open, ready, test } from './studio.ts'

const STARTER = resolve(import.meta.dirname, '../public/starter')
const STORIES = resolve(import.meta.dirname, '../../shared/models/stories260K')
const read = (name: string): Buffer => readFileSync(resolve(STARTER, name))
const file = (name: string, buffer: Buffer | string) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from(buffer) })
const config = (change: object): string => JSON.stringify({ ...(JSON.parse(read('config.json').toString()) as object), ...change })

const WRONG = [
  {
    name: 'truncated weights',
    files: () => [file('config.json', read('config.json')), file('model.safetensors', read('model.safetensors').subarray(0, 200_000))],
    says: /model\.safetensors/,
  },
  { name: 'no weights', files: () => [file('config.json', read('config.json'))], says: /\.safetensors/ },
  {
    name: 'an unknown architecture',
    files: () => [
      file('config.json', config({ model_type: 'mamba', architectures: ['MambaForCausalLM'] })),
      file('model.safetensors', read('model.safetensors')),
    ],
    says: /[Mm]amba/,
  },
  {
    name: 'a config that its weights do not fit',
    files: () => [file('config.json', config({ num_hidden_layers: 6 })), file('model.safetensors', read('model.safetensors'))],
    says: /layers\.5/,
  },
  { name: 'no model at all', files: () => [file('model.gguf', 'GGUF is what this is not')], says: /gguf/i },
]

test('files that are no model say what is wrong, and the model that was there stays', async ({ page }) => {
  await open(page)
  for (const { name, files, says } of WRONG)
    await test.step(name, async () => {
      await page.getByTestId('drop-model-input').setInputFiles(files())
      const error = page.getByTestId('error')
      await expect(error).toContainText(says, { timeout: 30_000 })
      await expect(error).toContainText('What to do')
      await expect(page.getByTestId('model-name')).toHaveText('starter')
      await expect(page.getByTestId('next')).toBeEnabled()
    })
  // it is not only named: it can still be trained
  await go(page, 'train')
  await expect(page.getByTestId('start')).toBeEnabled()
  await page.reload()
  await ready(page)
  await go(page, 'model')
  await expect(page.getByTestId('model-name')).toHaveText('starter')
})

test('a folder loads with its tokenizer, and is there after a reload', async ({ page }, { outputDir }) => {
  test.skip(!existsSync(STORIES), 'stories260K is not beside this checkout (../shared/models)')
  // as it would be downloaded: a folder with things in it that are no part of the model
  const folder = resolve(outputDir, 'stories260K')
  mkdirSync(folder, { recursive: true })
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'])
    cpSync(resolve(STORIES, name), resolve(folder, name))
  writeFileSync(resolve(folder, 'README.md'), '# stories')
  await open(page)
  await page.getByTestId('drop-model-folder').setInputFiles(folder)
  await expect(page.getByTestId('model-name')).toContainText('stories260K')
  await expect(page.getByTestId('model-info')).toContainText('Llama')
  await expect(page.getByTestId('model-info')).toContainText('512')
  await page.reload()
  await ready(page)
  await expect(page.getByTestId('model-name')).toContainText('stories260K')
  rmSync(folder, { recursive: true })
})

test.describe('from the hub', () => {
  test.use({ allowed: ['https://huggingface.co'] })
  const COMMIT = '0123456789abcdef0123456789abcdef01234567'
  const TOKEN = 'hf_thisTokenMustNotBeKeptAnywhere'
  const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors']
  const HEADERS = { 'access-control-allow-origin': '*' }

  interface Hub {
    readonly asked: string[]
    readonly tokens: Set<string>
    readonly ranges: string[]
    /** Weights are answered once this resolves. */
    gate: Promise<void>
    down: boolean
  }
  async function fakeHub(page: Page): Promise<Hub> {
    const hub: Hub = { asked: [], tokens: new Set(), ranges: [], gate: Promise.resolve(), down: false }
    const siblings = FILES.map((rfilename) => ({ rfilename, size: read(rfilename).length }))
    await page.context().route('https://huggingface.co/**', async (route: Route) => {
      const request = route.request()
      const { pathname } = new URL(request.url())
      if (hub.down) return route.abort()
      hub.asked.push(pathname)
      hub.tokens.add(request.headers()['authorization'] ?? '')
      if (pathname.startsWith('/api/models/someone/tiny/'))
        return route.fulfill({ headers: HEADERS, json: { sha: COMMIT, siblings: [...siblings, { rfilename: 'pickle.bin', size: 9 }] } })
      const name = pathname.split('/').at(-1) ?? ''
      if (!pathname.startsWith(`/someone/tiny/resolve/${COMMIT}/`) || !FILES.includes(name))
        return route.fulfill({ status: 404, headers: HEADERS })
      const body = read(name)
      if (name !== 'model.safetensors') return route.fulfill({ headers: HEADERS, body })
      await hub.gate
      const from = Number(/bytes=(\d+)-/.exec(request.headers()['range'] ?? '')?.[1] ?? 0)
      if (from > 0) hub.ranges.push(request.headers()['range'])
      // the connection ends after half of it, the first time
      const part = from > 0 ? body.subarray(from) : body.subarray(0, body.length >> 1)
      const range = `bytes ${from}-${from + part.length - 1}/${body.length}`
      await route
        .fulfill({ status: from > 0 ? 206 : 200, headers: { ...HEADERS, ...(from > 0 ? { 'content-range': range } : {}) }, body: part })
        .catch(() => undefined)
    })
    return hub
  }

  test('a model is fetched with progress, cancelled, resumed and kept; the token is not', async ({ page }) => {
    const hub = await fakeHub(page)
    let release = (): void => undefined
    hub.gate = new Promise((done) => (release = done))
    await open(page)
    await page.getByTestId('hub-repo').fill('no such thing')
    await expect(page.getByTestId('hub-fetch')).toBeDisabled()
    await page.getByTestId('hub-repo').fill('https://huggingface.co/someone/tiny')
    await page.getByRole('button', { name: 'Revision and token' }).click()
    await page.getByTestId('hub-token').fill(TOKEN)
    await page.getByTestId('hub-fetch').click()

    const progress = page.getByTestId('progress')
    await expect(progress).toContainText('model.safetensors')
    await expect(progress).toContainText(/of 2\.\d+\sMB/)
    await page.getByTestId('cancel').click()
    await expect(page.getByRole('button', { name: 'Resume the download' })).toBeVisible()
    await expect(page.getByTestId('model-name')).toHaveText('starter')
    const row = page.getByTestId('download-row')
    await expect(row).toContainText('someone/tiny')
    await expect(row).toContainText('unfinished')
    release()

    const texts = hub.asked.filter((p) => p.endsWith('config.json')).length
    await page.getByRole('button', { name: 'Resume the download' }).click()
    await expect(page.getByTestId('model-name')).toHaveText('someone/tiny', { timeout: 30_000 })
    expect(hub.asked.filter((p) => p.endsWith('config.json')).length, 'what was there is not asked for again').toBe(texts)
    expect(hub.ranges, 'a lost connection is taken up where it ended').toEqual([`bytes=${read('model.safetensors').length >> 1}-`])
    expect(hub.asked.some((p) => p.endsWith('.bin'))).toBe(false)
    expect([...hub.tokens]).toEqual([`Bearer ${TOKEN}`])

    const kept = await everythingKept(page)
    expect(kept, 'the search sees what is kept').toContain('someone/tiny')
    expect(kept).toContain(COMMIT)
    expect(kept).not.toContain(TOKEN)

    hub.down = true
    await page.reload()
    await ready(page)
    await expect(page.getByTestId('model-name')).toHaveText('someone/tiny')

    // it takes room until it is deleted, which it cannot be while it is in use
    await expect(row).toContainText('in use')
    await expect(page.getByTestId('download-delete')).toBeDisabled()
    await page.getByTestId('use-starter').click()
    await expect(page.getByTestId('model-name')).toHaveText('starter')
    await expect(row).toContainText(/[\d.]+\sMB\s*$/)
    await page.getByTestId('download-delete').click()
    await page.getByTestId('download-delete-sure').click()
    await expect(page.getByTestId('downloads')).toBeHidden()
    expect(await everythingKept(page)).not.toContain('model.safetensors')
  })

  test('what came of a cancelled download can be deleted', async ({ page }) => {
    const hub = await fakeHub(page)
    hub.gate = new Promise(() => undefined)
    await open(page)
    await page.getByTestId('hub-repo').fill('someone/tiny')
    await page.getByTestId('hub-fetch').click()
    await expect(page.getByTestId('progress')).toContainText('model.safetensors')
    await page.getByTestId('cancel').click()
    await expect(page.getByTestId('download-row')).toContainText('unfinished')
    await page.getByTestId('download-delete').click()
    await page.getByTestId('download-delete-sure').click()
    await expect(page.getByTestId('downloads')).toBeHidden()
    await expect(page.getByRole('button', { name: 'Fetch', exact: true })).toBeVisible()
    expect(await everythingKept(page)).not.toContain('model.safetensors')
  })

  test('a model that is not there says so', async ({ page }) => {
    await fakeHub(page)
    await open(page)
    await page.getByTestId('hub-repo').fill('someone/else')
    await page.getByTestId('hub-fetch').click()
    await expect(page.getByTestId('error')).toContainText('someone/else')
    await expect(page.getByTestId('error')).toContainText('no such repository')
    await expect(page.getByTestId('model-name')).toHaveText('starter')
  })

  /** All that the browser keeps for the page, as one text: storage, databases, private files, caches, cookies. */
  const everythingKept = async (page: Page): Promise<string> => {
    const inside = await page.evaluate(async () => {
      const found: string[] = [localStorage, sessionStorage].map((s) => JSON.stringify(Object.entries(s)))
      const done = <T>(r: IDBRequest<T>): Promise<T> =>
        new Promise((resolve, reject) => {
          r.onsuccess = () => resolve(r.result)
          r.onerror = () => reject(new Error(String(r.error)))
        })
      for (const { name } of await indexedDB.databases()) {
        const db = await done(indexedDB.open(name ?? ''))
        for (const table of db.objectStoreNames) {
          const store = db.transaction(table).objectStore(table)
          found.push(JSON.stringify([await done(store.getAllKeys()), await done(store.getAll())]))
        }
        db.close()
      }
      const walk = async (folder: FileSystemDirectoryHandle): Promise<void> => {
        for await (const [name, handle] of folder.entries()) {
          found.push(name)
          if (handle.kind === 'directory') await walk(handle)
          else found.push(await (await handle.getFile()).text())
        }
      }
      await walk(await navigator.storage.getDirectory())
      for (const name of await caches.keys()) for (const r of await (await caches.open(name)).keys()) found.push(r.url)
      return found.join('\n')
    })
    return `${inside}\n${JSON.stringify(await page.context().cookies())}`
  }
})

test('the frozen weights can be kept in fewer bits: what each form takes is said, and planned', async ({ page }) => {
  await open(page)
  const base = page.getByTestId('run-base')
  await expect(base).toHaveValue(/^As in the file \(F16\), [\d.]+\s[kM]B$/)
  const mb = (text: string): number => Number(/([\d.]+)\s(k|M)B$/.exec(text)![1]) * (/kB$/.test(text) ? 1e-3 : 1)
  const chosen = async (): Promise<number> => mb(await base.inputValue())
  const planned = page
    .getByTestId('memory')
    .first()
    .getByRole('row', { name: /^Weights/ })
    .getByRole('cell')
    .last()
  const kept = await chosen()
  await expect.poll(async () => mb(await planned.innerText())).toBe(kept)
  await base.click()
  for (const name of [/^NF4: 4 bits, as QLoRA, /, /^Q8: 8-bit blocks, /, /^f16: /, /^f32: /])
    await expect(page.getByRole('option', { name })).toBeVisible()
  await page.getByRole('option', { name: /^NF4/ }).click()
  const small = await chosen()
  expect(small).toBeLessThan(0.6 * kept)
  await expect.poll(async () => mb(await planned.innerText())).toBe(small)
  // full fine-tuning trains the weights themselves: it says that they cannot be kept so
  await go(page, 'method')
  await page.getByTestId('method-full').click()
  await expect(page.getByTestId('error').first()).toContainText('trains the weights themselves')
  await go(page, 'model')
  await expect(base).toHaveValue(/^NF4/)
})
