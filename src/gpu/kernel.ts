/** @file A kernel: the TypeScript half of a file in shaders/. Knows names, types and sizes; never a GPU object. */

import type { Pace } from './pace.ts'

export type Access = 'read' | 'write'
export type ScalarType = 'u32' | 'f32'
/** A binding that exists only where one of `when`'s flags is on. */
export interface OptionalBinding {
  readonly access: Access
  readonly when: readonly string[]
}
export type Binding = Access | OptionalBinding

export interface KernelSpec<B extends string, U extends string, F extends string, C extends string> {
  /** Name of the kernel and of its file in shaders/. */
  readonly name: string
  /** `@group(0)` in binding order (the index counts optional ones too). 'write' is `read_write` in WGSL. */
  readonly bindings: Readonly<Record<B, Binding>>
  /** Fields of `struct Params` (`@group(1) @binding(0) var<uniform> params`), in order. */
  readonly uniforms: Readonly<Record<U, ScalarType>>
  /** Compile-time switches of `@if(...)`. Exactly these may be named in the shader, besides `subgroups`. */
  readonly flags?: readonly F[]
  /** Flag sets that make sense together, for the conformance suite; default: every single flag and none. */
  readonly variants?: readonly (readonly F[])[]
  /** Compile-time sizes and their defaults; `import constants::NAME` in the shader. */
  readonly constants: Readonly<Record<C, number>>
  /** WGSL generated from constants (with SUBGROUP) and flags, spliced in at the shader's `// @generated` line: unrolled loops. */
  generate?(constants: Readonly<Record<C, number>>, flags: ReadonlySet<F>): string
  /** Names of expressions that `generate` cannot know: each call names one (`apply`), imported as `import op::apply`. */
  readonly applies?: Readonly<Record<string, string>>
  /** Uses subgroup operations when the device has them (`@if(subgroups)`), or 'required'. */
  readonly subgroups?: 'optional' | 'required'
  /** Workgroups to dispatch; zero in any axis means there is nothing to do. */
  grid(params: Readonly<Record<U, number>>, constants: Readonly<Record<C, number>>): readonly [x: number, y?: number, z?: number]
  /** Floating-point operations of a dispatch, at most. Without it the bytes of its buffers alone say how long it takes. */
  cost?(params: Readonly<Record<U, number>>, constants: Readonly<Record<C, number>>): number
  /** Axis of the grid along which a long dispatch may be cut: `struct Params` then ends with `base: u32`, the first workgroup of the piece, which the
   * program fills in. */
  readonly split?: 'x' | 'y'
}

/** What ops may ask about the device while they choose a kernel. Plain data, so that tracing needs no GPU. */
export interface TargetTraits {
  readonly software: boolean
  /** Fixed subgroup size, 0 if none. */
  readonly subgroup: number
  readonly maxBindingSize: number
  /** Storage buffers that a dispatch may bind; 8 where it is not said. */
  readonly storageBuffers?: number
  /** Other limits on how long work may take than those of gpu/pace.ts; null: none. */
  readonly pace?: Pace | null
  /** Subgroup matrices; null where there are none. */
  readonly matrix?: MatrixUnit | null
  /** Whether products of one row with packed weights may round the row to bytes, so that whole numbers are multiplied; absent: no. */
  readonly dot?: boolean
  /** What tuning found on this device, by class of product (src/kernels/matmul.ts); classes it did not come to are not there. */
  readonly matmuls?: Readonly<Record<string, TunedMatmul>>
}
/** Subgroup matrices: what one instruction multiplies, [M, K] by [K, N] of `type`, added up in f32. */
export interface MatrixUnit {
  readonly type: 'f16' | 'f32'
  readonly M: number
  readonly N: number
  readonly K: number
  /** Invocations of a subgroup, at most. */
  readonly lanes: number
}
/** A matmul family and its sizes. `matrix`: a tile whose product is computed by subgroup matrices; `reg`: one without workgroup memory. */
export type TunedMatmul =
  | {
      readonly family: 'tile' | 'matrix' | 'reg'
      readonly BM: number
      readonly BN: number
      readonly BK: number
      readonly TM: number
      readonly TN: number
    }
  | { readonly family: 'sgk'; readonly TM: number; readonly V: number }

/** The erased form, for lists of kernels. */
export interface AnyKernel {
  readonly name: string
  readonly bindings: Readonly<Record<string, Binding>>
  readonly uniforms: Readonly<Record<string, ScalarType>>
  readonly flags?: readonly string[]
  readonly variants?: readonly (readonly string[])[]
  readonly constants: Readonly<Record<string, number>>
  generate?(constants: Readonly<Record<string, number>>, flags: ReadonlySet<string>): string
  readonly applies?: Readonly<Record<string, string>>
  readonly subgroups?: 'optional' | 'required'
  grid(params: Readonly<Record<string, number>>, constants: Readonly<Record<string, number>>): readonly [x: number, y?: number, z?: number]
  cost?(params: Readonly<Record<string, number>>, constants: Readonly<Record<string, number>>): number
  readonly split?: 'x' | 'y'
}

/** Identity at run time; infers the binding, uniform, flag and constant names for typed dispatch. */
export const defineKernel = <B extends string, U extends string, F extends string = never, C extends string = never>(
  spec: KernelSpec<B, U, F, C>,
): KernelSpec<B, U, F, C> => spec

/** A kernel with everything that shapes its WGSL chosen. */
export interface Variant {
  readonly kernel: AnyKernel
  readonly flags: readonly string[]
  readonly constants: Readonly<Record<string, number>>
  /** Key into `kernel.applies`. */
  readonly apply?: string
}

/** Bytes of `struct Params`. */
export const paramBytes = ({ uniforms, split }: AnyKernel): number => 4 * (Object.keys(uniforms).length + (split ? 1 : 0))
export const access = (b: Binding): Access => (typeof b === 'string' ? b : b.access)
/** The bindings that a variant has, with their index in `@group(0)`. */
export function activeBindings(kernel: AnyKernel, flags: readonly string[]): { name: string; index: number; access: Access }[] {
  return Object.entries(kernel.bindings).flatMap(([name, b], index) =>
    typeof b === 'string' || b.when.some((f) => flags.includes(f)) ? [{ name, index, access: access(b) }] : [],
  )
}

/** 0 … n - 1. */
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
export const ceilDiv = (a: number, b: number): number => Math.ceil(a / b)
/** A one-dimensional grid of `groups` workgroups, folded into two axes of at most 65,535. Shaders read `gid.x + gid.y * n.x * WORKGROUP`. */
export const grid1d = (groups: number): readonly [number, number] =>
  groups <= 65_535 ? [groups, groups === 0 ? 0 : 1] : [65_535, ceilDiv(groups, 65_535)]
