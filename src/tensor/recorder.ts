/** @file Where commands go: an encoder that is submitted, and replaced by a new one, as often as the pace of the device asks. */
import type { Gpu } from '../gpu/device.ts'
import { type Pace, secondsFor } from '../gpu/pace.ts'
import type { Call } from './graph.ts'

/** Seconds that a call takes by `pace`, at most, with these values of its uniforms. Its buffers count in full. */
export function estimate(pace: Pace, { kernel, constants, buffers }: Call, uniforms: Readonly<Record<string, number>>): number {
  const bytes = Object.values(buffers).reduce((n, t) => n + t.bytes, 0)
  return secondsFor(pace, kernel.cost?.(uniforms, constants) ?? 0, bytes)
}

export class Recorder {
  /** Submits so far. What `encoder` holds at the end is not among them. */
  submits = 0
  dispatches = 0
  #encoder: GPUCommandEncoder | null = null
  #seconds = 0
  constructor(readonly gpu: Gpu) {}

  get encoder(): GPUCommandEncoder {
    return (this.#encoder ??= this.gpu.device.createCommandEncoder())
  }

  /** Submit what was recorded, and go on. */
  flush(): void {
    this.gpu.device.queue.submit([this.encoder.finish()])
    this.submits++
    this.#seconds = 0
    this.#encoder = null
  }

  /** Whether work of so many seconds must wait for a submit of its own. */
  isFull(pace: Pace | null, seconds: number): boolean {
    return pace !== null && this.#seconds > 0 && this.#seconds + seconds > pace.submit
  }
  /** A dispatch was recorded. */
  count(seconds: number): void {
    this.dispatches++
    this.#seconds += seconds
  }
}

/** A dispatch cut along an axis: uniforms that differ in the first workgroup of each piece, made when they are first needed. */
export class Pieces {
  #buffer: GPUBuffer | null = null
  #groups: GPUBindGroup[] = []
  /** @param stride bytes from the uniforms of one piece to the next  @param base byte offset of `base` among them */
  constructor(
    readonly gpu: Gpu,
    readonly layout: () => GPUBindGroupLayout,
    readonly stride: number,
    readonly size: number,
    readonly base: number,
  ) {}

  /** `count` workgroups with these uniforms, at most `each` a piece. */
  cut(each: number, count: number, uniforms: ArrayBuffer): { readonly group: GPUBindGroup; readonly count: number }[] {
    const n = Math.ceil(count / each)
    if (n > this.#groups.length) this.#grow(n)
    const data = new Uint8Array(n * this.stride)
    const view = new DataView(data.buffer)
    for (let i = 0; i < n; i++) {
      data.set(new Uint8Array(uniforms), i * this.stride)
      view.setUint32(i * this.stride + this.base, i * each, true)
    }
    this.gpu.device.queue.writeBuffer(this.#buffer!, 0, data)
    return this.#groups.slice(0, n).map((group, i) => ({ group, count: Math.min(each, count - i * each) }))
  }

  #grow(n: number): void {
    this.destroy()
    const buffer = this.gpu.createBuffer(n * this.stride, 0x40 | 0x8 /* UNIFORM | COPY_DST */, 'uniforms of pieces')
    this.#buffer = buffer
    this.#groups = Array.from({ length: n }, (_, i) =>
      this.gpu.device.createBindGroup({
        layout: this.layout(),
        entries: [{ binding: 0, resource: { buffer, offset: i * this.stride, size: this.size } }],
      }),
    )
  }
  destroy(): void {
    if (this.#buffer) this.gpu.destroyBuffer(this.#buffer)
    this.#buffer = null
  }
}

/** Workgroups of a piece, where `seconds` are spread evenly over `count` of them. */
export const pieceSize = (pace: Pace, seconds: number, count: number): number =>
  Math.max(1, Math.min(count, Math.floor((count * pace.dispatch) / seconds)))
