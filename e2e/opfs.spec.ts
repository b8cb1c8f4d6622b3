/** @file The file store on a real browser's private file system, in a worker and in a page: what the tests over an imitation of it cannot show. */
import { expect, test } from '@playwright/test'
import { build } from 'vite'

const root = import.meta.dirname

// The script comes as text, which the studio's own policy rightly forbids.
test.use({ bypassCSP: true })

/** src/io/opfs.ts as one script that sets `self.opfs`. */
async function script(): Promise<string> {
  const out = await build({
    root,
    configFile: false,
    logLevel: 'silent',
    build: { write: false, minify: false, lib: { entry: `${root}/../src/io/opfs.ts`, formats: ['iife'], name: 'opfs' } },
  })
  const [first] = Array.isArray(out) ? out : [out]
  if (!('output' in first)) throw new Error('nothing was built')
  return first.output[0].code
}

/** Runs in the browser; returns what it saw. Plain JavaScript, because it is sent as text. */
const body = `async (name) => {
  const seen = []
  const store = await opfs.openOpfs(name)
  const text = async (key) => { const s = await store.read(key); return s && new TextDecoder().decode(await s.read(0, s.size)) }
  const bytes = (s) => new TextEncoder().encode(s)
  await store.write('runs/1/a', bytes('a long old text'))
  await store.write('runs/1/a', bytes('new'))
  seen.push(await text('runs/1/a'))
  async function* broken() { yield bytes('half'); throw new Error('cut') }
  seen.push(await store.write('runs/1/a', broken()).catch((e) => e.what ?? e.message), await text('runs/1/a'))
  await store.append('x.part', new Uint8Array(3 * 2 ** 20).fill(1))
  await store.append('x.part', new Uint8Array(2 ** 20).fill(2))
  await store.write('done/x', bytes('old'))
  await store.move('x.part', 'done/x')
  const moved = await store.read('done/x')
  seen.push(moved.size, (await moved.read(3 * 2 ** 20 - 1, 2)).join())
  seen.push((await store.list('')).map((f) => f.key + ' ' + f.size).join())
  await store.remove('done/x')
  seen.push(await store.read('done/x'), (await store.available()) > 1e6)
  return seen
}`

const expected = ['new', expect.stringContaining('cut'), 'new', 4 * 2 ** 20, '1,2', `done/x ${4 * 2 ** 20},runs/1/a 3`, null, true]

test('the store on the private file system: worker, page, and a reload', async ({ page }) => {
  const code = await script()
  await page.goto('/')
  const run = async (name: string) =>
    page.evaluate<unknown[], [string, string, string]>(
      ([js, f, n]) => (0, eval)(`${js};(${f})(${JSON.stringify(n)})`) as Promise<unknown[]>,
      [code, body, name],
    )
  expect(await run('page-test')).toEqual(expected)
  await page.reload()
  expect(await run('page-test')).toEqual(expected)
  const inWorker = await page.evaluate<unknown[], [string, string]>(
    ([js, f]) =>
      new Promise((resolve, reject) => {
        const worker = new Worker(
          URL.createObjectURL(new Blob([`${js};(${f})('worker-test').then(postMessage, (e) => postMessage([String(e)]))`])),
        )
        worker.onmessage = (e: MessageEvent<unknown[]>) => resolve(e.data)
        worker.onerror = (e) => reject(new Error(e.message))
      }),
    [code, body],
  )
  expect(inWorker).toEqual(expected)
})
