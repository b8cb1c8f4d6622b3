/**
 * @file What the adapter can do at most, measured: f32 fused multiply-adds a second with everything in registers, and bytes a second of a copy. A matmul's
 * "% of peak" is against the first. Several shapes of the same loop are tried, as no adapter likes all of them; the best one counts.
 */
import { benchDevice, kernel, storageBuffer } from './device.ts'
import { median } from './report.ts'

const LOOPS = 512
const WORKGROUP = 64
const COPY_BYTES = 64 * 2 ** 20

/** `chains` independent accumulators of `type`, so that the latency of one is hidden by the others. */
function fmaShader(type: 'f32' | 'vec4f', chains: number): string {
  const each = (line: (i: number) => string) => Array.from({ length: chains }, (_, i) => line(i)).join('\n    ')
  return `
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(${WORKGROUP}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = ${type}(out[id.x] * 1e-9 + 0.999);
  let y = ${type}(f32(id.x) * 1e-9);
  ${each((i) => `var a${i} = ${type}(f32(${i}) + f32(id.x));`)}
  for (var i = 0u; i < ${LOOPS}u; i++) {
    ${each((i) => `a${i} = fma(a${i}, x, y);`)}
  }
  let sum = ${Array.from({ length: chains }, (_, i) => `a${i}`).join(' + ')};
  out[id.x] = ${type === 'f32' ? 'sum' : 'sum.x + sum.y + sum.z + sum.w'};
}`
}

const COPY_SHADER = `
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4f>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 256u + id.x;
  target_[i] = source[i];
}`

/** Milliseconds of one call of `run(times)`, median of `rounds` after one to warm up. */
export async function timed(run: (times: number) => Promise<void>, times: number, rounds: number): Promise<number> {
  await run(times)
  const ms: number[] = []
  for (let i = 0; i < rounds; i++) {
    const began = performance.now()
    await run(times)
    ms.push(performance.now() - began)
  }
  return median(ms)
}

/** How many calls fill about `target` milliseconds. */
export async function callsFor(run: (times: number) => Promise<void>, target: number): Promise<number> {
  const one = await timed(run, 1, 3)
  return Math.max(1, Math.min(1000, Math.round(target / one)))
}

export interface Peak {
  /** 10⁹ f32 operations a second; a fused multiply-add is two. */
  readonly gflops: number
  readonly fmaMs: number
  /** 10⁹ bytes a second, read and written both counted. */
  readonly gbPerSecond: number
  readonly copyMs: number
}

export async function measurePeak(): Promise<Peak> {
  const device = await benchDevice()
  let best = { gflops: 0, fmaMs: 0 }
  const groups = 1024
  for (const [type, chains] of [
    ['f32', 8],
    ['f32', 12],
    ['vec4f', 2],
    ['vec4f', 4],
  ] as const) {
    const out = storageBuffer(device, groups * WORKGROUP * 4)
    const run = kernel(device, fmaShader(type, chains), [out], [groups, 1])
    const times = await callsFor(run, 100)
    const ms = (await timed(run, times, 5)) / times
    const gflops = (groups * WORKGROUP * LOOPS * chains * (type === 'f32' ? 1 : 4) * 2) / ms / 1e6
    if (gflops > best.gflops) best = { gflops, fmaMs: ms }
    out.destroy()
  }
  const [source, target] = [storageBuffer(device, COPY_BYTES), storageBuffer(device, COPY_BYTES)]
  const run = kernel(device, COPY_SHADER, [source, target], [COPY_BYTES / 16 / 256 / 64, 64])
  const times = await callsFor(run, 100)
  const copyMs = (await timed(run, times, 5)) / times
  source.destroy()
  target.destroy()
  return { ...best, gbPerSecond: (2 * COPY_BYTES) / copyMs / 1e6, copyMs }
}
