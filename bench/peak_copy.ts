/** @file The most bytes a second that an adapter moves through memory it cannot keep in a cache, read and written both counted. Several ways of moving them are tried. */
import { waitFor } from '../src/gpu/wait.ts'
import { benchDevice, kernel, storageBuffer } from './device.ts'
import { measure, type Run } from './timing.ts'

const MIB = 2 ** 20
/** Of each of two buffers; the larger size where the smaller one is moved within a millisecond. */
const SIZES = { small: 64 * MIB, large: 256 * MIB }
const WORKGROUP = 256
const ROUNDS = 5

/**
 * Each lane moves `each` vec4s, a grid apart. `inPlace`: they are scaled where they lie. A CPU that copies reads the lines of a cache that it is about to
 * overwrite, too, and so moves half as much again as is counted; in place it does not, nor in the driver's own copy.
 */
function shader(each: number, inPlace: boolean): string {
  const move = (at: string) => (inPlace ? `target_[${at}] *= 0.999;` : `target_[${at}] = source[${at}];`)
  return `
@group(0) @binding(0) var<storage, read_write> target_: array<vec4f>;
${inPlace ? '' : '@group(0) @binding(1) var<storage, read> source: array<vec4f>;'}
@compute @workgroup_size(${WORKGROUP}) fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let apart = groups.x * groups.y * ${WORKGROUP}u;
  let i = id.y * groups.x * ${WORKGROUP}u + id.x;
  ${Array.from({ length: each }, (_, k) => move(`i + ${k}u * apart`)).join('\n  ')}
}`
}

/** The driver's own copy. */
const copied =
  (device: GPUDevice, source: GPUBuffer, target: GPUBuffer): Run =>
  async (times) => {
    const encoder = device.createCommandEncoder()
    for (let i = 0; i < times; i++) encoder.copyBufferToBuffer(source, 0, target, 0, source.size)
    device.queue.submit([encoder.finish()])
    await waitFor(device.queue.onSubmittedWorkDone())
  }

export interface CopyPeak {
  /** 10⁹ bytes a second. */
  readonly gbPerSecond: number
  /** Milliseconds of moving all bytes once, how, and rounds. */
  readonly ms: number
  readonly by: string
  readonly rounds: number
}

async function best(device: GPUDevice, bytes: number): Promise<CopyPeak> {
  const [source, target] = [storageBuffer(device, bytes), storageBuffer(device, bytes)]
  const shaders = [1, 4, 8].flatMap((each) =>
    [false, true].map((inPlace) => {
      const buffers = inPlace ? [target] : [target, source]
      const run = kernel(device, shader(each, inPlace), buffers, [bytes / 16 / each / WORKGROUP / 64, 64])
      return { by: `${each} vec4s a lane${inPlace ? ', in place' : ''}`, run }
    }),
  )
  let found: CopyPeak | null = null
  for (const { by, run } of [...shaders, { by: 'copyBufferToBuffer', run: copied(device, source, target) }]) {
    await run(1)
    const { least, rounds } = await measure(run, ROUNDS)
    if (!found || least < found.ms) found = { gbPerSecond: (2 * bytes) / least / 1e6, ms: least, by, rounds }
  }
  source.destroy()
  target.destroy()
  return found!
}

/** The best way's best round: a bound, where the cases measured against it are medians. */
export async function measureCopy(): Promise<CopyPeak> {
  const device = await benchDevice()
  const small = await best(device, SIZES.small)
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits
  return small.ms < 1 && Math.min(maxBufferSize, maxStorageBufferBindingSize) >= SIZES.large ? best(device, SIZES.large) : small
}
