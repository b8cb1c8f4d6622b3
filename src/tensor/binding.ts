/** @file What one binding holds: a tensor is bound whole or refused, as a kernel that saw a part of it would compute something else without a word. */
import { GpuError } from '../errors.ts'
import type { Graph, Tensor } from './graph.ts'

/** Throws GpuError naming the first tensor of a graph that is larger than one binding, or than what is left of its buffer. */
export function requireBindable(name: string, graph: Graph, maxBindingSize: number): void {
  for (const { kernel, buffers } of graph.calls)
    for (const [binding, t] of Object.entries(buffers)) {
      const label = t.storage?.label ?? t.op
      const where = `${name}, ${kernel.name}, ${binding}: ${label}`
      if (t.bytes > maxBindingSize)
        throw new GpuError(`it takes ${t.bytes} bytes, and this GPU binds at most ${maxBindingSize} at once`, {
          where,
          why: 'A kernel would see only the beginning of it, and what it computes would be wrong',
          fix: 'Use a smaller batch, shorter rows or a smaller model, or a GPU with larger bindings',
        })
      if (t.storage && t.byteOffset + t.bytes > t.storage.bytes)
        throw new GpuError(`${t.bytes} bytes at ${t.byteOffset} are more than its ${t.storage.bytes}`, {
          where,
          fix: 'This is a defect of Etude: please report it',
        })
    }
}

/** Bytes to bind for a tensor that is bindable. The tail is padded, as far as there is room, so that whole vec4s may be read. */
export const bindSize = (t: Tensor, bufferBytes: number, maxBindingSize: number): number =>
  Math.min(Math.ceil(t.bytes / 16) * 16, bufferBytes - t.byteOffset, maxBindingSize)
