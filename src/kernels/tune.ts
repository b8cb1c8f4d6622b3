/** @file Which matmul family and tile is fastest on a device: a short search among the candidates of each class of products, on buffers of its own. */
import { type Gpu, targetOf } from '../gpu/device.ts'
import { activeBindings, type AnyKernel, type TunedMatmul } from '../gpu/kernel.ts'
import { waitFor } from '../gpu/wait.ts'
import { chooseMatmul, type Layout, matmulCandidates, matmulClass, tunedTo } from './matmul.ts'
import { weightBytes, weightFlag } from './weight_formats.ts'

/** What is tuned, what matters most first: the products of a LoRA step over a quantised base, then of a floating one, gradients of weights, short batches. */
const CLASSES: readonly { readonly layout: Layout; readonly packed: boolean; readonly M: number }[] = [
  { layout: 'nt', packed: true, M: 1024 },
  { layout: 'nn', packed: true, M: 1024 },
  { layout: 'nt', packed: false, M: 1024 },
  { layout: 'nn', packed: false, M: 1024 },
  { layout: 'tn', packed: false, M: 1024 },
  { layout: 'nt', packed: true, M: 128 },
  { layout: 'nn', packed: true, M: 128 },
  { layout: 'nt', packed: false, M: 128 },
  { layout: 'nn', packed: false, M: 128 },
]
const [N, K, MOST] = [768, 768, 1024]
/** One measurement lasts about this long, in ms: above what a submit takes by itself. */
const LONG_ENOUGH = 4
const MOST_REPEATS = 64
/** A candidate must be this much faster than the ones before it, which are what untuned devices use. */
const MARGIN = 0.97

export interface Tuning {
  readonly matmuls: Readonly<Record<string, TunedMatmul>>
  /** Whether every class was come to; others are, the next time. */
  readonly complete: boolean
  readonly ms: number
}

interface Ready {
  readonly candidate: TunedMatmul
  readonly pipeline: GPUComputePipeline
  readonly bind: (pass: GPUComputePassEncoder) => void
}
/** Compiled in time; makes what it needs to run. */
type Compiled = () => Ready

export interface TuneOptions {
  /** ms. */
  readonly limit?: number
  /** Ends the search as if its time were over. */
  readonly signal?: AbortSignal
  /** What was found before: these classes are not searched again. */
  readonly known?: Readonly<Record<string, TunedMatmul>>
}

/** Search for at most `limit` ms, then keep what was found. Classes it did not come to keep the device's defaults. Throws nothing: a candidate that a driver
 * refuses is passed over. Nothing stays allocated. */
export async function tuneMatmuls(gpu: Gpu, { limit = 3000, signal, known = {} }: TuneOptions = {}): Promise<Tuning> {
  const began = performance.now()
  const left = (): number => (signal?.aborted ? 0 : limit - (performance.now() - began))
  const usage = 0x80 | 0x8 /* STORAGE | COPY_DST */
  const packed = weightBytes('q8_0', MOST, MOST)
  const make = (bytes: number, label: string) => gpu.createBuffer(bytes, usage, `tuning ${label}`)
  const buffers: Readonly<Record<string, GPUBuffer>> = {
    a: make(MOST * MOST * 4, 'a'),
    w: make(MOST * MOST * 4, 'w'),
    scales: make(Math.max(16, packed.scales), 'scales'),
    c: make(MOST * MOST * 8 * 4, 'c'),
  }
  const uniforms: GPUBuffer[] = []
  const matmuls: Record<string, TunedMatmul> = { ...known }
  const wanted = CLASSES.filter((c) => !(matmulClass(c) in known))
  let done = 0
  try {
    for (const shape of wanted) {
      if (left() <= 0) break
      const compiled = await within(left(), signal, compile(gpu, shape, buffers, uniforms))
      if (!compiled) break
      const best = await fastest(
        gpu,
        compiled.map((make) => make()),
        left,
      )
      if (!best) break
      matmuls[matmulClass(shape)] = best
      done++
    }
  } finally {
    for (const b of [...Object.values(buffers), ...uniforms]) gpu.destroyBuffer(b)
  }
  return { matmuls, complete: done === wanted.length, ms: performance.now() - began }
}

/** Pipelines of every candidate, compiled at once. */
async function compile(
  gpu: Gpu,
  { layout, packed, M }: (typeof CLASSES)[number],
  buffers: Readonly<Record<string, GPUBuffer>>,
  uniforms: GPUBuffer[],
): Promise<Compiled[]> {
  const target = targetOf(gpu.traits)
  const format = packed ? 'q8_0' : 'f32'
  const sizes = layout === 'tn' ? { M: N, N: K, K: M } : { M, N, K }
  const made = await Promise.allSettled(
    matmulCandidates(target).map(async (candidate): Promise<Compiled | null> => {
      const shape = { layout, ...sizes, plain: !packed, packed, aligned: true, vectors: true, segments: [] }
      const choice = chooseMatmul({ ...target, matmuls: tunedTo(candidate) }, shape)
      const kernel: AnyKernel = choice.kernel
      if (candidate.family === 'sgk' ? kernel.name !== 'matmul_sgk' : kernel.name !== 'matmul_tile') return null
      const flags: string[] = ['a_vec4', weightFlag(format), ...(layout === 'nt' ? [] : [`layout_${layout}`])]
      if ('narrow' in choice && choice.narrow) flags.push('narrow')
      if ('how' in choice) flags.push(...choice.how)
      const constants = { ...choice.constants } as Readonly<Record<string, number>>
      const pipeline = await gpu.pipeline({ kernel, flags, constants: { ...kernel.constants, ...constants } })
      return () => ({
        candidate,
        pipeline,
        bind: binder(gpu, kernel, flags, { ...kernel.constants, ...constants }, sizes, layout, pipeline, buffers, uniforms),
      })
    }),
  )
  return made.flatMap((m) => (m.status === 'fulfilled' && m.value ? [m.value] : []))
}

function binder(
  gpu: Gpu,
  kernel: AnyKernel,
  flags: readonly string[],
  constants: Readonly<Record<string, number>>,
  sizes: { readonly M: number; readonly N: number; readonly K: number },
  layout: Layout,
  pipeline: GPUComputePipeline,
  buffers: Readonly<Record<string, GPUBuffer>>,
  uniforms: GPUBuffer[],
): Ready['bind'] {
  const values: Readonly<Record<string, number>> = {
    ...sizes,
    lda: layout === 'tn' ? sizes.M : sizes.K,
    ldb: layout === 'nt' ? sizes.K : sizes.N,
    ldc: sizes.N,
    alpha: 1,
    mscale: 1,
    seg0: 0xffffffff,
    seg1: 0xffffffff,
  }
  const fields = Object.entries(kernel.uniforms)
  const data = new DataView(new ArrayBuffer(Math.ceil((fields.length + 1) / 4) * 16))
  fields.forEach(([f, type], i) => {
    if (type === 'f32') data.setFloat32(4 * i, values[f] ?? 0, true)
    else data.setUint32(4 * i, values[f] ?? 0, true)
  })
  const uniform = gpu.createBuffer(data.byteLength, 0x40 | 0x8 /* UNIFORM | COPY_DST */, 'tuning uniforms')
  uniforms.push(uniform)
  const { device } = gpu
  device.queue.writeBuffer(uniform, 0, data.buffer)
  const entries = activeBindings(kernel, flags).map(({ name, index }) => ({ binding: index, resource: { buffer: buffers[name] } }))
  const groups = [
    device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }),
    device.createBindGroup({ layout: pipeline.getBindGroupLayout(1), entries: [{ binding: 0, resource: { buffer: uniform } }] }),
  ]
  const numbers = Object.fromEntries(fields.map(([f]) => [f, values[f] ?? 0]))
  const [x, y = 1, z = 1] = kernel.grid(numbers, constants)
  return (pass) => {
    pass.setPipeline(pipeline)
    groups.forEach((g, i) => pass.setBindGroup(i, g))
    pass.dispatchWorkgroups(x, y, z)
  }
}

/** ms of one dispatch among `times`. */
async function time(gpu: Gpu, { bind }: Ready, times: number): Promise<number> {
  const { device } = gpu
  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  for (let i = 0; i < times; i++) bind(pass)
  pass.end()
  const began = performance.now()
  device.queue.submit([encoder.finish()])
  await waitFor(device.queue.onSubmittedWorkDone())
  return (performance.now() - began) / times
}

/** Null where the time ended before all were measured. */
async function fastest(gpu: Gpu, ready: readonly Ready[], left: () => number): Promise<TunedMatmul | null> {
  let best: { readonly candidate: TunedMatmul; readonly ms: number } | null = null
  for (const r of ready) {
    if (left() <= 0) return null
    await time(gpu, r, 1)
    const once = await time(gpu, r, 1)
    const times = Math.max(1, Math.min(MOST_REPEATS, Math.round(LONG_ENOUGH / Math.max(once, 1e-3))))
    // One that is slow by far needs no second look.
    const ms: number =
      best && once > 4 * best.ms && once > LONG_ENOUGH ? once : Math.min(await time(gpu, r, times), await time(gpu, r, times))
    if (!best || ms < MARGIN * best.ms) best = { candidate: r.candidate, ms }
  }
  return best && best.candidate
}

/** Null after `ms`, or once it is called off; what it waited for goes on unheard. */
export async function within<T>(ms: number, signal: AbortSignal | undefined, work: Promise<T>): Promise<T | null> {
  let end: () => void = () => undefined
  const late = new Promise<null>((resolve) => (end = () => resolve(null)))
  const timer = setTimeout(end, ms)
  signal?.addEventListener('abort', end)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
  }
}
