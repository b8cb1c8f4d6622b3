/** @file Runs before every test file. A Dawn instance that is dropped while a device of it lives takes the process down, so it is made once. */
import { create, globals } from 'webgpu'
import { chooseDriver, dawnOptions, namedDriver, prepareEnvironment, softwareDriver } from '../src/cli/drivers.ts'

declare global {
  var testGpu: GPU
}

if (!globalThis.testGpu) {
  const driver = namedDriver() ?? softwareDriver()
  if (driver && !process.env.VK_ICD_FILENAMES) chooseDriver(driver)
  prepareEnvironment()
  Object.assign(globalThis, globals)
  globalThis.testGpu = create(dawnOptions())
}
