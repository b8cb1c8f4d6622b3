/** @file The engine worker: the GPU, the stored runs and the network, handed to the engine in engine/. */
import { toWire } from '../errors.ts'
import { Gpu } from '../gpu/device.ts'
import { type BlobStore, memoryStore } from '../io/blob_store.ts'
import { openOpfs } from '../io/opfs.ts'
import { Engine } from './engine/engine.ts'
import type { EngineCommand, EngineEvent } from './protocol.ts'

// A built worker lies in assets/ beside the starter's folder; the development server keeps public files at the root.
const starterUrl = new URL(import.meta.env.DEV ? '/starter/' : '../starter/', self.location.href).href

const post = (event: EngineEvent): void => self.postMessage(event)

/** Without storage everything works but nothing outlives the page, which is said. */
async function openStore(): Promise<BlobStore> {
  try {
    return await openOpfs()
  } catch (e) {
    post({ type: 'error', id: null, runId: null, error: toWire(e) })
    return memoryStore()
  }
}

/** How long a page that is going away may take to let go of its run, in ms. */
const PATIENCE = 3000

/** A lock of this origin, held until it is released or the worker ends. */
function claim(runId: string): Promise<(() => void) | null> {
  return new Promise((resolve) => {
    const held = () => new Promise<void>((release) => resolve(release))
    navigator.locks.request(`etude-run-${runId}`, { signal: AbortSignal.timeout(PATIENCE) }, held).catch(() => resolve(null))
  })
}

const engine = openStore().then(
  (store) =>
    new Engine({
      store,
      starterUrl,
      fetch: (input, init) => fetch(input, init),
      requestGpu: () => Gpu.request(navigator.gpu),
      claim,
      browser: navigator.userAgent,
      post,
    }),
)
self.addEventListener('message', (e: MessageEvent<EngineCommand>) => {
  void engine.then((it) => it.handle(e.data))
})
