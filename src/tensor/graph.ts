/** @file One training step as a flat list of kernel calls over virtual tensors.
 *
 * Ops append calls while the step is traced; `backward` appends the calls of the gradient, an optimizer those of its update. The list is
 * then planned (buffers shared by liveness) and replayed every step. Nothing here touches the GPU. */
import { EtudeError } from '../errors.ts'
import type { AnyKernel, KernelSpec, TargetTraits } from '../gpu/kernel.ts'
export type { TargetTraits }
import type { Storage } from './storage.ts'

export type Shape = readonly number[]
export const numel = (s: Shape): number => s.reduce((a, b) => a * b, 1)

/** A number that changes between replays: learning rate, row count, position. Read when the step is replayed. */
export interface Scalar {
  readonly value: number
}
export class ScalarInput implements Scalar {
  constructor(public value: number) {}
}
/** A number computed from others at every replay. */
export const derived = (get: () => number): Scalar => ({
  get value() {
    return get()
  },
})
/** A size that may be live. `limit` is its largest value: what is planned for. */
export type Dim = number | Scalar
export const isLive = (d: Dim): d is Scalar => typeof d !== 'number'
/** d * k, live if d is. */
export const times = (d: Dim, k: number): Dim => (typeof d === 'number' ? d * k : derived(() => d.value * k))

/** Element type of a tensor's storage; the last three are packings of frozen weights (see nn/weight.ts). */
export type DType = 'f32' | 'u32' | 'f16x2' | 'q4' | 'q8'

/** Whose bytes they are, in the memory plan. */
export type MemoryClass = 'weights' | 'adapter' | 'optimizer' | 'activations' | 'head' | 'batch'

/** Gradients of one op's inputs, in order. A thunk runs only when that input needs its gradient. Given `into` (a tensor of the same shape that
 * already holds a gradient), it may add to it in place and return it; or it returns a tensor of its own, and the caller adds. */
export type GradThunk = (into: Tensor | null) => Tensor
/** `owned`: nobody else reads dy afterwards, so its memory may be reused by the last thunk. */
export type Vjp = (dy: Tensor, owned: boolean) => readonly (GradThunk | null)[]

export class Tensor {
  /** Where a trainable leaf's gradient is added up across micro-batches; null elsewhere. */
  sink: Tensor | null = null
  /** The tensor whose memory this one overwrites (in-place ops). */
  alias: Tensor | null = null
  memory: MemoryClass = 'activations'
  constructor(
    readonly graph: Graph,
    readonly id: number,
    readonly shape: Shape,
    readonly dtype: DType,
    /** Whether the loss's gradient must reach this tensor. */
    readonly needsGrad: boolean,
    /** Persistent memory (weights, optimizer state, batch) or null: planned by liveness. */
    readonly storage: Storage | null,
    /** First element of a view, in bytes from the start of `storage`. A multiple of 256. */
    readonly byteOffset: number,
    /** Live row count of the leading axis (at most shape[0]), or shape[0]. */
    readonly rows: Dim,
    readonly inputs: readonly Tensor[] = [],
    readonly vjp: Vjp | null = null,
    readonly op = 'leaf',
  ) {}
  get bytes(): number {
    return numel(this.shape) * 4
  }
  /** Last axis. */
  get cols(): number {
    return this.shape.at(-1)!
  }
}

export interface Call {
  readonly kernel: AnyKernel
  readonly flags: readonly string[]
  readonly constants: Readonly<Record<string, number>>
  readonly apply?: string
  /** By binding name. */
  readonly buffers: Readonly<Record<string, Tensor>>
  readonly uniforms: Readonly<Record<string, Dim>>
  readonly memory: MemoryClass
}

/** Shapes that an op does not accept. Raised while tracing, before any GPU work. */
export class ShapeError extends EtudeError {
  override readonly name = 'ShapeError'
  constructor(op: string, expected: string, ...got: Shape[]) {
    super(`expected ${expected}, got ${got.map((s) => `[${s.join(', ')}]`).join(' and ')}`, { where: op })
  }
}

export class Graph {
  readonly calls: Call[] = []
  readonly tensors: Tensor[] = []
  /** Class given to tensors made from here on. */
  memory: MemoryClass = 'activations'
  constructor(readonly target: TargetTraits) {}

  /** A persistent tensor, or a view of `shape` at `byteOffset` of its storage. */
  leaf(
    storage: Storage,
    shape: Shape,
    o: { dtype?: DType; byteOffset?: number; needsGrad?: boolean; sink?: Tensor | null; rows?: Dim } = {},
  ): Tensor {
    const { dtype = 'f32', byteOffset = 0, needsGrad = false } = o
    const t = this.#add(new Tensor(this, this.tensors.length, shape, dtype, needsGrad, storage, byteOffset, o.rows ?? shape[0]))
    t.sink = o.sink ?? null
    t.memory = storage.memory
    return t
  }

  /** The output of an op: needs a gradient exactly when one of its inputs does. Its live rows are the first input's unless said otherwise. */
  node(
    op: string,
    shape: Shape,
    inputs: readonly Tensor[],
    vjp: Vjp | null,
    o: { rows?: Dim; dtype?: DType; alias?: Tensor } = {},
  ): Tensor {
    const needsGrad = vjp !== null && inputs.some((t) => t.needsGrad)
    const first = inputs[0]
    const rows = o.rows ?? (first && isLive(first.rows) && first.shape[0] === shape[0] ? first.rows : shape[0])
    const t = this.#add(
      new Tensor(this, this.tensors.length, shape, o.dtype ?? 'f32', needsGrad, null, 0, rows, inputs, needsGrad ? vjp : null, op),
    )
    t.memory = this.memory
    t.alias = o.alias ?? null
    return t
  }

  call<B extends string, U extends string, F extends string, C extends string>(
    kernel: KernelSpec<B, U, F, C>,
    buffers: Partial<Record<NoInfer<B>, Tensor | null>>,
    uniforms: Record<NoInfer<U>, Dim>,
    o: { flags?: readonly NoInfer<F>[]; constants?: Partial<Record<NoInfer<C>, number>>; apply?: string } = {},
  ): void {
    const bound = Object.fromEntries(Object.entries<Tensor | null | undefined>(buffers).filter((e): e is [string, Tensor] => e[1] != null))
    this.calls.push({
      kernel: kernel,
      uniforms,
      flags: o.flags ?? [],
      constants: { ...kernel.constants, ...o.constants },
      ...(o.apply !== undefined && { apply: o.apply }),
      buffers: bound,
      memory: this.memory,
    })
  }

  /** Run `body` with tensors counted in another memory class. */
  within<T>(memory: MemoryClass, body: () => T): T {
    const before = this.memory
    this.memory = memory
    try {
      return body()
    } finally {
      this.memory = before
    }
  }

  #add(t: Tensor): Tensor {
    this.tensors.push(t)
    return t
  }
}
