/** @file Types of the helpers that TypeScript uses; see install.mjs. */
export declare const ROOT: string
export declare function findBrowser(): string | null
/** Manifest of lavapipe, or null. */
export declare function findLavapipe(): string | null
/** Manifest of the SwiftShader in a browser's folder or in the usual ones, or null. */
export declare function findSwiftShader(browser?: string | null): string | null
/** A driver for WebGPU in Node, installed if need be. Throws Error saying what to install. */
export declare function ensureVulkan(browser?: string | null): {
  readonly name: 'gpu' | 'lavapipe' | 'swiftshader'
  readonly icd: string | null
}
