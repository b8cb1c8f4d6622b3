/** @file The most f32 multiply-adds a second that an adapter reaches with everything in registers. Several shapes of the same loop are tried, as no adapter likes all of them. */
import { benchDevice, kernel, storageBuffer } from './device.ts'
import { measure } from './timing.ts'

const WORKGROUP = 64
const ROUNDS = 5
/** A dispatch is at least about this long, in milliseconds: starting one takes a GPU microseconds. */
const DISPATCH_MS = 2
const SMALLEST = { groups: 1024, turns: 512 }
/** Times the smallest number of groups: enough to fill the largest GPUs. */
const MOST_GROUPS = 16

/** `chains` independent accumulators, so that the latency of one is hidden by the others; `unroll` turns are written out: a loop's own instructions are dear on a CPU. */
interface Loop {
  readonly type: 'f32' | 'vec4f'
  readonly chains: number
  readonly unroll: number
}
const LOOPS: readonly Loop[] = [1, 8, 32].flatMap((unroll) => [
  { type: 'f32', chains: 8, unroll },
  { type: 'f32', chains: 12, unroll },
  { type: 'vec4f', chains: 2, unroll },
  { type: 'vec4f', chains: 4, unroll },
])

interface Size {
  readonly groups: number
  readonly turns: number
}

function shader({ type, chains, unroll }: Loop, turns: number): string {
  const each = (line: (i: number) => string) => Array.from({ length: chains }, (_, i) => line(i)).join(' ')
  const turn = each((i) => `a${i} = fma(a${i}, x, y);`)
  return `
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(${WORKGROUP}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = ${type}(out[id.x] * 1e-9 + 0.999);
  let y = ${type}(f32(id.x) * 1e-9);
  ${each((i) => `var a${i} = ${type}(f32(${i}) + f32(id.x));`)}
  for (var i = 0u; i < ${turns / unroll}u; i++) {
    ${Array.from({ length: unroll }, () => turn).join('\n    ')}
  }
  let sum = ${Array.from({ length: chains }, (_, i) => `a${i}`).join(' + ')};
  out[id.x] = ${type === 'f32' ? 'sum' : 'sum.x + sum.y + sum.z + sum.w'};
}`
}

export interface FmaPeak {
  /** 10⁹ operations a second; a multiply-add is two. */
  readonly gflops: number
  /** Milliseconds of a dispatch, the loop that it ran, and rounds. */
  readonly ms: number
  readonly by: string
  readonly rounds: number
}

async function rate(device: GPUDevice, loop: Loop, { groups, turns }: Size): Promise<FmaPeak> {
  const out = storageBuffer(device, groups * WORKGROUP * 4)
  const run = kernel(device, shader(loop, turns), [out], [groups, 1])
  await run(1)
  const { least, rounds } = await measure(run, ROUNDS)
  out.destroy()
  const { type, chains, unroll } = loop
  const operations = groups * WORKGROUP * turns * chains * (type === 'f32' ? 1 : 4) * 2
  return { gflops: operations / least / 1e6, ms: least, by: `${chains} chains of ${type}, ${unroll} turns at a time`, rounds }
}

/** The size at which a dispatch lasts DISPATCH_MS on an adapter that takes `ms` for the smallest. */
export function grown(ms: number): Size {
  const factor = Math.max(1, DISPATCH_MS / ms)
  const groups = Math.min(MOST_GROUPS, Math.ceil(factor))
  return { groups: SMALLEST.groups * groups, turns: SMALLEST.turns * Math.ceil(factor / groups) }
}

/** The best loop's best round: a bound, where the cases measured against it are medians. */
export async function measureFma(): Promise<FmaPeak> {
  const device = await benchDevice()
  const size = grown((await rate(device, LOOPS[0], SMALLEST)).ms)
  let best: FmaPeak | null = null
  for (const loop of LOOPS) {
    const found = await rate(device, loop, size)
    if (!best || found.gflops > best.gflops) best = found
  }
  return best!
}
