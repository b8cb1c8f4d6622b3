/** @file WebGPU in Node: Dawn, on the machine's GPU or a software driver, with a main thread that sleeps while the GPU works. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { create } from 'webgpu'
import dawn from 'webgpu/package.json' with { type: 'json' }
import { ensureVulkan } from '../../scripts/install.mjs'
import { GpuError } from '../errors.ts'
import { Gpu } from '../gpu/device.ts'
import { setWaiter, sleepingWaiter } from '../gpu/wait.ts'
import { prepareDevice, type ProfileStore, type Tune } from '../train/device_profile.ts'
import { chooseDriver, dawnOptions, namedDriver, prepareEnvironment, softwareDriver } from './drivers.ts'

/** Dawn instances: one that is dropped while a device of it lives takes the process down. */
const instances: GPU[] = []
let found: GPU | null = null

function instance(): GPU {
  const gpu = create(dawnOptions())
  instances.push(gpu)
  return gpu
}

async function hasAdapter(gpu: GPU): Promise<boolean> {
  return (await gpu.requestAdapter({ powerPreference: 'high-performance' })) !== null
}

/** Ways to an adapter, tried in turn: the machine's own drivers, a software driver that is there, one that can be installed. */
async function findInstance(): Promise<GPU> {
  const named = namedDriver()
  if (named && !process.env.VK_ICD_FILENAMES) chooseDriver(named)
  const own = instance()
  if (await hasAdapter(own)) return own
  if (process.env.VK_ICD_FILENAMES)
    throw new GpuError('the Vulkan driver that VK_ICD_FILENAMES names cannot be used', {
      where: process.env.VK_ICD_FILENAMES,
      why: 'WebGPU found no adapter with it',
      fix: 'Correct it, or unset it so that a driver is looked for',
    })
  const software = softwareDriver()
  if (software) {
    chooseDriver(software)
    const gpu = instance()
    if (await hasAdapter(gpu)) return gpu
  }
  let installed: string | null
  try {
    installed = ensureVulkan().icd
  } catch (e) {
    throw new GpuError('there is no GPU that WebGPU can use, and no software driver', {
      where: 'WebGPU in Node',
      why: 'Etude computes on the GPU through WebGPU and has no other way',
      fix: e instanceof Error ? e.message : String(e),
    })
  }
  if (installed) chooseDriver(installed)
  return instance()
}

export interface OpenOptions {
  /** By default nothing is measured for a command: what was is used. */
  readonly tune?: Tune
  /** Told what is switched off because this device gets it wrong. */
  readonly note?: (text: string) => void
}
/** Where profiles of devices are kept: the user's cache. */
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'etude', 'device')
const PROFILES: ProfileStore = {
  read: (name) => readFile(join(CACHE, name), 'utf8'),
  async write(name, text) {
    await mkdir(CACHE, { recursive: true })
    await writeFile(join(CACHE, name), text)
  },
}

/** Where commands get their device from, and give it back. */
export interface GpuSource {
  open(o?: OpenOptions): Promise<Gpu>
  close(gpu: Gpu): void
}

/** WebGPU in this process, as `navigator.gpu` is in a page. Throws GpuError, saying what to install, where there is no adapter. */
export async function nodeGpu(): Promise<GPU> {
  prepareEnvironment()
  setWaiter(sleepingWaiter())
  return (found ??= await findInstance())
}

/** A device. Throws GpuError, saying what to install, where there is none. */
async function openGpu({ tune = 'stored', note }: OpenOptions = {}): Promise<Gpu> {
  const gpu = await Gpu.request(await nodeGpu())
  const { notes } = await prepareDevice(gpu, { store: PROFILES, browser: `Node ${process.version}, webgpu ${dawn.version}`, tune })
  for (const n of notes) note?.(n)
  return gpu
}

/** A device of its own for each command. */
export const NODE_GPU: GpuSource = {
  open: openGpu,
  close: (gpu) => {
    gpu.destroy()
  },
}
