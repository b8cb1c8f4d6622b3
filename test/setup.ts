/** @file Runs before every test file. A Dawn instance that is dropped while a device of it lives takes the process down, so it is made once. */
import { existsSync } from 'node:fs'
import { create, globals } from 'webgpu'

declare global {
  var testGpu: GPU
}

/** Software Vulkan drivers, fastest first, for machines without a GPU. */
const DRIVERS = ['/usr/share/vulkan/icd.d/lvp_icd.json', '/usr/share/vulkan/icd.d/lvp_icd.x86_64.json', '/usr/lib/chromium/vk_swiftshader_icd.json']

if (!globalThis.testGpu) {
  const driver = DRIVERS.find(existsSync)
  if (driver && !process.env.VK_ICD_FILENAMES) process.env.VK_ICD_FILENAMES = driver
  process.env.XDG_RUNTIME_DIR ??= process.env.TMPDIR ?? '/tmp'
  Object.assign(globalThis, globals)
  globalThis.testGpu = create([])
}
