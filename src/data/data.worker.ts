/** @file The data worker: parsing and tokenising away from the page's thread. All of it is in session.ts. */
import type { DataCommand } from './protocol.ts'
import { DataSession } from './session.ts'

const session = new DataSession((event, transfer) => {
  self.postMessage(event, { transfer })
})
self.addEventListener('message', (e: MessageEvent<DataCommand>) => {
  session.handle(e.data)
})
