/** @file How to wait for the GPU. In a browser a promise is enough. Dawn in Node spins a core while a promise of it is pending,
 * so there a waiter is installed that puts the main thread to sleep between looks. */

type Waiter = <T>(pending: Promise<T>) => Promise<T>
let waiter: Waiter = (pending) => pending

export const setWaiter = (w: Waiter): void => {
  waiter = w
}
/** Await a GPU promise (a map, a submitted-work-done, a pipeline). */
export const waitFor = <T>(pending: Promise<T>): Promise<T> => waiter(pending)

/** A waiter for Node: sleeps `ms` of every turn of the event loop, so the cores are the driver's. */
export function sleepingWaiter(ms = 1): Waiter {
  const cell = new Int32Array(new SharedArrayBuffer(4))
  return async (pending) => {
    let done = false
    const settle = () => {
      done = true
    }
    pending.then(settle, settle)
    await Promise.resolve()
    while (!done) {
      Atomics.wait(cell, 0, 0, ms)
      await new Promise<void>((resolve) => setImmediate(resolve))
    }
    return pending
  }
}
