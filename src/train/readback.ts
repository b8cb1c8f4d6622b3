/** @file Small results of the GPU, read while it goes on: a ring of staging buffers, each free again once its values arrived. */
import { GpuError } from '../errors.ts'
import type { Gpu } from '../gpu/device.ts'

/** Results that may be on their way at once: one is computed while the next one waits in the queue, so that the GPU is never idle. */
export const IN_FLIGHT = 2
/** What a copy held, as f32, and when it came (performance.now). */
export interface Arrival {
  readonly values: Float32Array
  readonly at: number
}
/** Bytes of one result. */
const SLOT = 32
export const READBACK_BYTES = IN_FLIGHT * SLOT

export class Readback {
  readonly #free: GPUBuffer[]
  readonly #all: readonly GPUBuffer[]

  constructor(readonly gpu: Gpu) {
    this.#all = Array.from({ length: IN_FLIGHT }, (_, i) => gpu.createBuffer(SLOT, 0x1 | 0x8 /* MAP_READ | COPY_DST */, `read-back ${i}`))
    this.#free = [...this.#all]
  }

  /**
   * Copy `parts` (bytes from the start of each, at most 32 in all, multiples of 4) behind everything that `encoder` holds, and submit it.
   * Resolves (await it with `waitFor`) with the values as they were then. Throws GpuError where the device is gone. Not while
   * IN_FLIGHT results are awaited.
   */
  submit(encoder: GPUCommandEncoder, parts: readonly { readonly buffer: GPUBuffer; readonly bytes: number }[]): Promise<Arrival> {
    const staging = this.#free.shift()
    if (!staging) throw new Error(`${IN_FLIGHT} results are on their way already`)
    let at = 0
    for (const { buffer, bytes } of parts) {
      encoder.copyBufferToBuffer(buffer, 0, staging, at, bytes)
      at += bytes
    }
    this.gpu.device.queue.submit([encoder.finish()])
    const arrived = this.#read(staging, staging.mapAsync(1))
    // Whoever gives up on a result need not hear that its buffer went away.
    arrived.catch(() => undefined)
    return arrived
  }

  async #read(staging: GPUBuffer, mapped: Promise<undefined>): Promise<Arrival> {
    try {
      await mapped
    } catch (e) {
      throw new GpuError('the GPU stopped answering', {
        why: e instanceof Error ? e.message : String(e),
        fix: 'Reload the page and resume the run from its last checkpoint',
      })
    }
    const values = new Float32Array(staging.getMappedRange().slice(0))
    staging.unmap()
    this.#free.push(staging)
    return { values, at: performance.now() }
  }

  destroy(): void {
    for (const b of this.#all) this.gpu.destroyBuffer(b)
  }
}
