/** @file The GPU: one device, what it can do, its pipelines. No machine learning here. */
import { GpuError } from '../errors.ts'
import { activeBindings, type AnyKernel, type MatrixUnit, paramBytes, type TargetTraits, type Variant } from './kernel.ts'
import { matrixUnit, SUBGROUP_MATRIX } from './matrix_unit.ts'
import { linkVariant } from './shaders.ts'
import { waitFor } from './wait.ts'

/** What the device offers, as far as kernels are chosen by it. */
export interface GpuTraits {
  readonly vendor: string
  readonly architecture: string
  readonly description: string
  /** A CPU pretending to be a GPU (SwiftShader, lavapipe): shared memory is slow there, loads are what counts. */
  readonly software: boolean
  readonly f16: boolean
  /** Fixed subgroup size, or 0 where there are no subgroups or their size may vary. */
  readonly subgroup: number
  readonly subgroupMin: number
  readonly subgroupMax: number
  readonly maxBufferSize: number
  readonly maxBindingSize: number
  readonly maxInvocations: number
  /** Storage buffers a stage. */
  readonly storageBuffers: number
  /** Subgroup matrices that kernels can use; null: none. */
  readonly matrix: MatrixUnit | null
  /** Bytes of uniforms that a dispatch may be given without a buffer; 0: none. */
  readonly immediates: number
  /** Packed products of signed bytes (`dot4I8Packed`) may be used; faster in generation, as was measured (absent: not measured). */
  readonly dot: boolean
  readonly dotFaster?: boolean
  /** What tuning found; see TargetTraits. */
  readonly matmuls?: TargetTraits['matmuls']
}

/** What ops choose kernels by. */
export const targetOf = ({ software, subgroup, maxBindingSize, storageBuffers, matrix, matmuls }: GpuTraits): TargetTraits => ({
  software,
  subgroup,
  maxBindingSize,
  storageBuffers,
  matrix,
  ...(matmuls && { matmuls }),
})

/** Storage buffers a stage that every kernel of ours stays within. */
const STORAGE_BUFFERS = 8
/** And as many as some of them use where they are to be had. */
const MOST_STORAGE_BUFFERS = 10

/** Bytes of immediates that every adapter has which has any: kernels with more keep to buffers everywhere, so tests meet the same ones. */
const IMMEDIATES = 64

export class Gpu {
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>()
  /** Bytes of all live buffers made through `createBuffer`, and how many were ever made. */
  allocatedBytes = 0
  buffersCreated = 0
  private constructor(
    readonly device: GPUDevice,
    public traits: GpuTraits,
  ) {}

  /** @param gpu `navigator.gpu` in a browser, `create([])` of the `webgpu` package in Node. */
  static async request(gpu: GPU | undefined): Promise<Gpu> {
    if (!gpu)
      throw new GpuError('WebGPU is not available here', {
        why: 'Etude trains on the GPU through WebGPU and has no other way to compute',
        fix: 'Use Chrome or Edge 121 or newer on a computer, over https or localhost, with hardware acceleration switched on in its settings',
      })
    const adapter = await waitFor(gpu.requestAdapter({ powerPreference: 'high-performance' }))
    if (!adapter)
      throw new GpuError('WebGPU found no graphics adapter', {
        why: 'the browser blocks this GPU or its driver is missing',
        fix: 'Update the graphics driver, switch hardware acceleration on, or open chrome://gpu to see why WebGPU is disabled',
      })
    const traits = readTraits(adapter, gpu)
    const { limits } = adapter
    if (limits.maxStorageBuffersPerShaderStage < STORAGE_BUFFERS || limits.maxComputeInvocationsPerWorkgroup < 256)
      throw new GpuError(
        `this GPU is below what training needs (${limits.maxStorageBuffersPerShaderStage} storage buffers a stage, ${limits.maxComputeInvocationsPerWorkgroup} invocations)`,
        {
          why: `kernels bind up to ${STORAGE_BUFFERS} buffers and use workgroups of up to 256`,
          fix: 'Use another GPU or browser',
        },
      )
    const wanted = ['shader-f16', 'subgroups', 'timestamp-query', SUBGROUP_MATRIX] as GPUFeatureName[]
    const device = await waitFor(
      adapter.requestDevice({
        requiredFeatures: wanted.filter((f) => adapter.features.has(f)),
        requiredLimits: {
          maxBufferSize: limits.maxBufferSize,
          maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
          maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
          maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
          maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
          maxStorageBuffersPerShaderStage: Math.min(limits.maxStorageBuffersPerShaderStage, MOST_STORAGE_BUFFERS),
          ...(traits.immediates > 0 && { maxImmediateSize: traits.immediates }),
        },
      }),
    )
    return new Gpu(device, traits)
  }

  /** Resolves, with why, when the device goes away by itself; never after `destroy`. */
  get lost(): Promise<GpuError> {
    return new Promise((resolve) => {
      void this.device.lost.then((info) => {
        if (info.reason !== 'destroyed')
          resolve(
            new GpuError(`the GPU device was lost (${info.message || 'no reason given'})`, {
              why: 'the driver was reset, the GPU ran out of memory or a computation took too long',
              fix: 'Reload the page and resume the run from its last checkpoint; if it happens again, use a smaller batch or shorter rows',
            }),
          )
      })
    })
  }

  /** Use the device differently from here on: without a path that it gets wrong, or with what tuning found. Plans and programs made before stay as they are. */
  adopt(change: Partial<GpuTraits>): void {
    this.traits = { ...this.traits, ...change }
    if ('subgroup' in change || 'immediates' in change) this.#pipelines.clear()
  }

  /** Whether the kernel's uniforms are immediates here. */
  takesImmediates(kernel: AnyKernel): boolean {
    return paramBytes(kernel) <= this.traits.immediates
  }

  createBuffer(size: number, usage: GPUBufferUsageFlags, label: string): GPUBuffer {
    if (size > this.traits.maxBufferSize)
      throw new GpuError(`a buffer of ${size} bytes is more than this GPU allows (${this.traits.maxBufferSize})`, {
        where: label,
        fix: 'Use a smaller model, batch or sequence length',
      })
    const buffer = this.device.createBuffer({ size, usage, label })
    this.allocatedBytes += size
    this.buffersCreated++
    return buffer
  }

  destroyBuffer(buffer: GPUBuffer): void {
    this.allocatedBytes -= buffer.size
    buffer.destroy()
  }

  /** The pipeline of a kernel variant; compiled once, keyed by everything that shapes its WGSL. */
  pipeline(v: Variant): Promise<GPUComputePipeline> {
    const key = JSON.stringify([v.kernel.name, [...v.flags].sort(), v.constants, v.apply])
    let p = this.#pipelines.get(key)
    if (!p) this.#pipelines.set(key, (p = this.#compile(v)))
    return p
  }

  async #compile(v: Variant): Promise<GPUComputePipeline> {
    const { device, traits } = this
    const immediates = this.takesImmediates(v.kernel)
    const code = await linkVariant(v, traits.subgroup > 0, traits.subgroup, immediates)
    const module = device.createShaderModule({ code, label: v.kernel.name })
    const bindings = activeBindings(v.kernel, v.flags)
    const storage = bindings.map(({ index, access }) => ({
      binding: index,
      visibility: 4 /* COMPUTE */,
      buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
    }))
    const buffers = device.createBindGroupLayout({ entries: storage })
    const uniforms = { binding: 0, visibility: 4, buffer: { type: 'uniform' as const } }
    const layout = device.createPipelineLayout(
      immediates
        ? { bindGroupLayouts: [buffers], immediateSize: paramBytes(v.kernel) }
        : { bindGroupLayouts: [buffers, device.createBindGroupLayout({ entries: [uniforms] })] },
    )
    try {
      return await waitFor(device.createComputePipelineAsync({ layout, label: v.kernel.name, compute: { module, entryPoint: 'main' } }))
    } catch (e) {
      const { messages } = await module.getCompilationInfo()
      throw new GpuError(`the kernel ${v.kernel.name} was rejected by this GPU's compiler`, {
        where: [...v.flags, v.apply ?? ''].join(' '),
        why: messages.map((m) => `${m.lineNum}:${m.linePos} ${m.message}`).join('; ') || String(e),
        fix: 'This is a defect of Etude: please report it with the name of the GPU',
      })
    }
  }

  destroy(): void {
    this.device.destroy()
  }
}

function readTraits(adapter: GPUAdapter, gpu: GPU): GpuTraits {
  const { info, limits, features } = adapter
  const name = `${info.vendor} ${info.architecture} ${info.description} ${info.device}`
  const has = features.has('subgroups')
  const min = has ? info.subgroupMinSize : 0
  const max = has ? info.subgroupMaxSize : 0
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description,
    software: info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|software|\bcpu\b/i.test(name),
    f16: features.has('shader-f16'),
    subgroup: min === max ? min : 0,
    subgroupMin: min,
    subgroupMax: max,
    maxBufferSize: limits.maxBufferSize,
    maxBindingSize: limits.maxStorageBufferBindingSize,
    maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
    matrix: matrixUnit(adapter),
    storageBuffers: Math.min(limits.maxStorageBuffersPerShaderStage, MOST_STORAGE_BUFFERS),
    immediates: gpu.wgslLanguageFeatures.has('immediate_address_space') && limits.maxImmediateSize >= IMMEDIATES ? IMMEDIATES : 0,
    dot: gpu.wgslLanguageFeatures.has('packed_4x8_integer_dot_product'),
  }
}
