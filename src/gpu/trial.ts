/** @file Making buffers so that a refusal is heard at once: WebGPU tells of it late and to error scopes alone, and drivers may promise memory that they
 * only look for when it is used. */
import { GpuError } from '../errors.ts'
import type { Gpu } from './device.ts'
import { waitFor } from './wait.ts'

/** What to say where the GPU refuses. */
export interface Refusal {
  /** "the GPU has no room for …" */
  readonly what: string
  readonly where?: string
  readonly fix: string
}

/** The GPU has no room. */
export class NoRoomError extends GpuError {}

/** Runs `make` and throws what the GPU says about it (NoRoomError where memory is short), or what it throws itself. `undo` frees what was made; it gets null where `make` threw. */
export async function trial<T>(
  gpu: Gpu,
  { what, where, fix }: Refusal,
  make: () => T | Promise<T>,
  undo: (made: T | null) => void = () => undefined,
): Promise<T> {
  const { device } = gpu
  device.pushErrorScope('out-of-memory')
  device.pushErrorScope('validation')
  let made: { readonly value: T } | null = null
  let thrown: unknown
  try {
    made = { value: await make() }
  } catch (e) {
    thrown = e
  }
  const validation = await device.popErrorScope()
  const memory = await device.popErrorScope()
  const error = memory ?? validation
  if (made && !error) return made.value
  undo(made && made.value)
  if (!error) throw thrown
  const detail = { ...(where !== undefined && { where }), why: error.message, fix }
  if (error.constructor.name === 'GPUOutOfMemoryError') throw new NoRoomError(`the GPU has no room for ${what}`, detail)
  throw new GpuError(`the GPU rejected ${what}`, detail)
}

/** Write zeros over whole buffers (COPY_DST) and wait: memory that only seems to be there is missed here. */
export async function touch(gpu: Gpu, buffers: readonly GPUBuffer[]): Promise<void> {
  if (buffers.length === 0) return
  const encoder = gpu.device.createCommandEncoder()
  for (const b of buffers) encoder.clearBuffer(b)
  gpu.device.queue.submit([encoder.finish()])
  await waitFor(gpu.device.queue.onSubmittedWorkDone())
}
