/** @file The product's entry: the page over its own two workers. */
import { DataClient } from '../data/client.ts'
import { EngineClient } from '../worker/client.ts'
import { mount } from './mount.tsx'

mount({
  engine: new EngineClient(new Worker(new URL('../worker/engine.worker.ts', import.meta.url), { type: 'module' })),
  data: new DataClient(() => new Worker(new URL('../data/data.worker.ts', import.meta.url), { type: 'module' })),
})
