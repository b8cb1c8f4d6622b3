/** @file Persistent memory: what lives across steps (weights, adapter, optimizer state, batch). Declared first, counted in the plan, allocated later. */
import { GpuError } from '../errors.ts'
import type { Gpu } from '../gpu/device.ts'
import { waitFor } from '../gpu/wait.ts'
import type { MemoryClass } from './graph.ts'

/** GPUBufferUsage: STORAGE | COPY_SRC | COPY_DST. */
export const STORAGE_USAGE = 0x80 | 0x4 | 0x8
/** Sizes are rounded up so that kernels may read whole vec4s at the end. */
export const paddedBytes = (bytes: number): number => Math.max(16, Math.ceil(bytes / 16) * 16)

/** A persistent buffer. `allocate` makes it; until then it is only its size. */
export class Storage {
  #buffer: GPUBuffer | null = null
  #gpu: Gpu | null = null
  readonly bytes: number
  constructor(
    readonly label: string,
    bytes: number,
    readonly memory: MemoryClass,
  ) {
    this.bytes = paddedBytes(bytes)
  }

  get buffer(): GPUBuffer {
    if (!this.#buffer) throw new Error(`${this.label} is not allocated`)
    return this.#buffer
  }
  get allocated(): boolean {
    return this.#buffer !== null
  }

  allocate(gpu: Gpu): this {
    if (!this.#buffer) {
      this.#buffer = gpu.createBuffer(this.bytes, STORAGE_USAGE, this.label)
      this.#gpu = gpu
    }
    return this
  }

  /** Write `data` at `byteOffset` (multiple of 4). */
  write(data: ArrayBufferView<ArrayBuffer>, byteOffset = 0): void {
    if (byteOffset + data.byteLength > this.bytes)
      throw new Error(`${this.label}: ${data.byteLength} bytes at ${byteOffset} do not fit ${this.bytes}`)
    this.#gpu?.device.queue.writeBuffer(this.buffer, byteOffset, data.buffer, data.byteOffset, data.byteLength)
  }

  /** Copy of [byteOffset, byteOffset + bytes). */
  async read(byteOffset = 0, bytes = this.bytes): Promise<ArrayBuffer> {
    if (!this.#gpu) throw new Error(`${this.label} is not allocated`)
    return readBuffer(this.#gpu, this.buffer, byteOffset, bytes)
  }

  destroy(): void {
    if (this.#buffer) this.#gpu?.destroyBuffer(this.#buffer)
    this.#buffer = null
  }
}

/** Read part of a buffer back through a staging buffer of its own. Not for the hot path. */
export async function readBuffer(gpu: Gpu, buffer: GPUBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer> {
  const size = Math.ceil(bytes / 4) * 4
  const staging = gpu.createBuffer(size, 0x1 | 0x8 /* MAP_READ | COPY_DST */, 'read-back')
  try {
    const encoder = gpu.device.createCommandEncoder()
    encoder.copyBufferToBuffer(buffer, byteOffset, staging, 0, size)
    gpu.device.queue.submit([encoder.finish()])
    await waitFor(staging.mapAsync(1))
    return staging.getMappedRange().slice(0, bytes)
  } catch (e) {
    throw new GpuError('reading from the GPU failed', {
      why: e instanceof Error ? e.message : String(e),
      fix: 'Reload the page and resume from the last checkpoint',
    })
  } finally {
    gpu.destroyBuffer(staging)
  }
}
