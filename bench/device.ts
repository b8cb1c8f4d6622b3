/** @file A plain WebGPU device and the few lines around a compute pipeline that the bench's own kernels (naive matmul, peak) need. */
import { waitFor } from '../src/gpu/wait.ts'

let device: Promise<GPUDevice> | undefined

/** One device for the bench's own kernels, with the adapter's limits. @param gpu where it comes from, the first time; default: the page */
export function benchDevice(gpu?: GPU): Promise<GPUDevice> {
  device ??= (async () => {
    const adapter = await waitFor((gpu ?? navigator.gpu).requestAdapter({ powerPreference: 'high-performance' }))
    if (!adapter) throw new Error('no WebGPU adapter')
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits
    return waitFor(adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } }))
  })()
  return device
}

export function storageBuffer(device: GPUDevice, contents: Float32Array<ArrayBuffer> | number): GPUBuffer {
  const size = typeof contents === 'number' ? contents : contents.byteLength
  const buffer = device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST })
  if (typeof contents !== 'number') device.queue.writeBuffer(buffer, 0, contents)
  return buffer
}

/** A compiled kernel with its buffers bound in order: `run(n)` dispatches it n times in one submit and waits for the GPU. */
export function kernel(device: GPUDevice, code: string, buffers: readonly GPUBuffer[], grid: readonly [number, number]) {
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module: device.createShaderModule({ code }) } })
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }))
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries })
  return async (times: number): Promise<void> => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    for (let i = 0; i < times; i++) pass.dispatchWorkgroups(grid[0], grid[1])
    pass.end()
    device.queue.submit([encoder.finish()])
    await waitFor(device.queue.onSubmittedWorkDone())
  }
}

export async function readFloats(device: GPUDevice, buffer: GPUBuffer): Promise<Float32Array> {
  const staging = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
  const encoder = device.createCommandEncoder()
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size)
  device.queue.submit([encoder.finish()])
  await waitFor(staging.mapAsync(GPUMapMode.READ))
  const floats = new Float32Array(staging.getMappedRange().slice(0))
  staging.destroy()
  return floats
}
