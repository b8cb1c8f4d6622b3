/** @file A device's memory as WebGPU sees it: every buffer that is made and destroyed is counted at the device itself, and it may be given less than it has. */
import type { Gpu } from '../src/gpu/device.ts'

export class DeviceMemory {
  live = 0
  peak = 0
  /** Live buffers. */
  readonly buffers = new Set<GPUBuffer>()
  readonly #undo: () => void
  /** Whether an out-of-memory error waits in each open scope; null: another kind of scope. */
  readonly #scopes: (string | null | false)[] = []

  /** @param limit bytes: what goes beyond them is an out-of-memory error, as a full GPU reports it. Labels of refused buffers are in the error. */
  constructor(
    gpu: Gpu,
    public limit = Infinity,
  ) {
    const { device } = gpu
    const createBuffer = device.createBuffer.bind(device)
    const push = device.pushErrorScope.bind(device)
    const pop = device.popErrorScope.bind(device)
    device.createBuffer = (d) => {
      const buffer = createBuffer(d)
      this.buffers.add(buffer)
      this.live += d.size
      this.peak = Math.max(this.peak, this.live)
      const destroy = buffer.destroy.bind(buffer)
      buffer.destroy = () => {
        if (this.buffers.delete(buffer)) this.live -= d.size
        destroy()
        return undefined
      }
      if (this.live > this.limit) {
        const scope = this.#scopes.findLastIndex((s) => s !== null)
        if (scope >= 0 && this.#scopes[scope] === false) this.#scopes[scope] = `no memory for ${d.label}`
      }
      return buffer
    }
    device.pushErrorScope = (filter) => {
      this.#scopes.push(filter === 'out-of-memory' ? false : null)
      push(filter)
      return undefined
    }
    device.popErrorScope = async () => {
      const scope = this.#scopes.pop()
      const real = await pop()
      return typeof scope === 'string' ? new GPUOutOfMemoryError(scope) : real
    }
    this.#undo = () => {
      Object.assign(device, { createBuffer, pushErrorScope: push, popErrorScope: pop })
    }
  }

  /** Begin a new peak. */
  mark(): void {
    this.peak = this.live
  }
  restore(): void {
    this.#undo()
  }
}
