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

/** Bytes read at once: a buffer of many is read in about 16 parts, so that the copy takes little beside it. */
const PART = { least: 1 << 18, most: 1 << 24 }

/** Read part of a buffer back through a staging buffer of its own, small beside it. Not for the hot path. */
export async function readBuffer(gpu: Gpu, buffer: GPUBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer> {
  const size = Math.ceil(bytes / 4) * 4
  const part = Math.min(size, Math.max(PART.least, Math.min(PART.most, Math.ceil(size / 64) * 4)))
  const out = new Uint8Array(bytes)
  const staging = gpu.createBuffer(part, 0x1 | 0x8 /* MAP_READ | COPY_DST */, 'read-back')
  try {
    for (let from = 0; from < size; from += part) {
      const n = Math.min(part, size - from)
      const encoder = gpu.device.createCommandEncoder()
      encoder.copyBufferToBuffer(buffer, byteOffset + from, staging, 0, n)
      gpu.device.queue.submit([encoder.finish()])
      await waitFor(staging.mapAsync(1, 0, n))
      out.set(new Uint8Array(staging.getMappedRange(0, n)).subarray(0, Math.min(n, bytes - from)), from)
      staging.unmap()
    }
    return out.buffer
  } catch (e) {
    throw new GpuError('reading from the GPU failed', {
      why: e instanceof Error ? e.message : String(e),
      fix: 'Reload the page and resume from the last checkpoint',
    })
  } finally {
    gpu.destroyBuffer(staging)
  }
}
