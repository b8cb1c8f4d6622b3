/** @file A run's control that holds the GPU while it works: a paused run lets others use it. */
import { RunControl } from '../../train/run_control.ts'
import type { Lock } from './lock.ts'

export class YieldingControl extends RunControl {
  #release: (() => void) | null = null
  constructor(
    readonly lock: Lock,
    paused: boolean,
  ) {
    super(paused)
  }
  async enter(): Promise<void> {
    this.#release = await this.lock.acquire()
  }
  leave(): void {
    this.#release?.()
    this.#release = null
  }
  override async changed(signal?: AbortSignal): Promise<void> {
    this.leave()
    try {
      await super.changed(signal)
    } finally {
      await this.enter()
    }
  }
}
