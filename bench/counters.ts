/**
 * @file Counts what any engine does with WebGPU, by wrapping the API itself: dispatches, submits, and bytes of live buffers. The same for all engines,
 * whatever they report of themselves. Buffers belong to the owner that was set when they were made.
 */

export interface Counts {
  readonly dispatches: number
  readonly submits: number
}

let owner = ''
let dispatches = 0
let submits = 0
const live = new Map<string, number>()
const peak = new Map<string, number>()
const buffers = new WeakMap<GPUBuffer, { owner: string; size: number }>()

/** Replaces a method by one that does `before` first. */
function wrap<T extends object>(type: { prototype: T }, name: keyof T & string, before: (self: T, result: unknown) => void): void {
  const original = type.prototype[name] as unknown as (...args: unknown[]) => unknown
  const wrapped = function (this: T, ...args: unknown[]): unknown {
    const result = original.apply(this, args)
    before(this, result)
    return result
  }
  Object.defineProperty(type.prototype, name, { value: wrapped, configurable: true, writable: true })
}

/** Starts counting; once a page, before any engine is loaded. */
export function installCounters(): void {
  wrap(GPUComputePassEncoder, 'dispatchWorkgroups', () => (dispatches += 1))
  wrap(GPUComputePassEncoder, 'dispatchWorkgroupsIndirect', () => (dispatches += 1))
  wrap(GPUQueue, 'submit', () => (submits += 1))
  wrap(GPUDevice, 'createBuffer', (_, result) => {
    const buffer = result as GPUBuffer
    buffers.set(buffer, { owner, size: buffer.size })
    const bytes = (live.get(owner) ?? 0) + buffer.size
    live.set(owner, bytes)
    peak.set(owner, Math.max(peak.get(owner) ?? 0, bytes))
  })
  wrap(GPUBuffer, 'destroy', (buffer) => {
    const made = buffers.get(buffer)
    if (!made) return
    buffers.delete(buffer)
    live.set(made.owner, (live.get(made.owner) ?? 0) - made.size)
  })
}

/** Buffers made from now on belong to `name`. */
export function setOwner(name: string): void {
  owner = name
}

/** Most bytes that `name` held at once, destroyed buffers not counted. */
export function peakBytes(name: string): number {
  return peak.get(name) ?? 0
}

/** What happened since the last call. */
export function takeCounts(): Counts {
  const counts = { dispatches, submits }
  dispatches = 0
  submits = 0
  return counts
}
