/** @file One thing at a time on the GPU: a first-come, first-served lock. */

export class Lock {
  #tail: Promise<void> = Promise.resolve()

  /** Waits for its turn. Call what it returns, once or more, to let the next one in. */
  async acquire(): Promise<() => void> {
    let free: () => void = () => undefined
    const before = this.#tail
    this.#tail = new Promise((resolve) => (free = resolve))
    await before
    return free
  }

  /** Runs `body` alone. */
  async run<T>(body: () => Promise<T>): Promise<T> {
    const release = await this.acquire()
    try {
      return await body()
    } finally {
      release()
    }
  }
}
