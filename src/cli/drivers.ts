/** @file Which Vulkan driver WebGPU in Node uses on a machine without a GPU. Dawn reads the choice from the environment when its first adapter is asked for. */
import { findLavapipe, findSwiftShader } from '../../scripts/install.mjs'

/** Manifest of a software driver: lavapipe (faster), else the SwiftShader of a Chromium; null where there is neither. */
export const softwareDriver = (): string | null => findLavapipe() ?? findSwiftShader(null)

/** The driver that the environment asks for by name (ETUDE_ADAPTER=swiftshader), or null. */
export const namedDriver = (): string | null => (process.env.ETUDE_ADAPTER === 'swiftshader' ? findSwiftShader(null) : null)

/** What Dawn is asked for: with ETUDE_EXPERIMENTAL=1 also features that are not yet in the specification (subgroup matrices), as Chrome has them with
 * `--enable-unsafe-webgpu`. */
export const dawnOptions = (): string[] => (process.env.ETUDE_EXPERIMENTAL === '1' ? ['enable-dawn-features=allow_unsafe_apis'] : [])

export function chooseDriver(manifest: string): void {
  process.env.VK_ICD_FILENAMES = manifest
}

/** Mesa complains without a folder for its sockets. */
export function prepareEnvironment(): void {
  process.env.XDG_RUNTIME_DIR ??= process.env.TMPDIR ?? '/tmp'
}
