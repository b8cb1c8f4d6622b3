/**
 * @file The bench model that every engine trains: a Llama-like decoder (d=256, 4 layers, 4 heads of 64, SwiGLU 688, vocabulary 1024, head tied to the
 * embedding, RMSNorm, RoPE in Hugging Face's half-rotated form, causal attention), with seeded weights and batches. Weights are in PyTorch's layout,
 * `[out, in]` row-major, named as Hugging Face names them. No engine may be imported here.
 */

export const MODEL = {
  hidden_size: 256,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  head_dim: 64,
  intermediate_size: 688,
  vocab_size: 1024,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
} as const
export const BATCH = 4
/** Sequence length, in tokens. */
export const SEQ = 128
export const LORA = { r: 8, alpha: 16 } as const
/** AdamW without decay; the learning rate is constant. */
export const ADAMW = { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8 } as const

/** The seven projections that LoRA acts on, in the order of a layer, with their shapes [out, in]. */
export const PROJECTIONS = {
  q_proj: [256, 256],
  k_proj: [256, 256],
  v_proj: [256, 256],
  o_proj: [256, 256],
  gate_proj: [688, 256],
  up_proj: [688, 256],
  down_proj: [256, 688],
} as const
export type Projection = keyof typeof PROJECTIONS
export const PROJECTION_NAMES = Object.keys(PROJECTIONS) as readonly Projection[]

/** Projections that read the same input: an engine may run such a group as one matmul. */
export const GROUPS = {
  qkv: { members: ['q_proj', 'k_proj', 'v_proj'], out: 256, inputs: 256 },
  o: { members: ['o_proj'], out: 256, inputs: 256 },
  gateUp: { members: ['gate_proj', 'up_proj'], out: 688, inputs: 256 },
  down: { members: ['down_proj'], out: 256, inputs: 688 },
} as const satisfies Record<string, { members: readonly Projection[]; out: number; inputs: number }>
export type Group = keyof typeof GROUPS
export const GROUP_NAMES = Object.keys(GROUPS) as readonly Group[]

/** `lora`: A and B of the seven projections, on a frozen base. `full`: every weight. */
export type Method = 'lora' | 'full'

export interface LayerWeights {
  /** [C] */
  readonly input_layernorm: Float32Array
  /** [C] */
  readonly post_attention_layernorm: Float32Array
  /** [out, in], shapes as in PROJECTIONS. */
  readonly projections: Readonly<Record<Projection, Float32Array>>
  /** Initial adapter: A [r, in], B [out, r] = 0. */
  readonly lora: Readonly<Record<Projection, { readonly A: Float32Array; readonly B: Float32Array }>>
}

export interface Weights {
  /** [V, C], also the head. */
  readonly embed_tokens: Float32Array
  readonly layers: readonly LayerWeights[]
  /** [C] */
  readonly norm: Float32Array
}

/** Ids and labels of one step, both [BATCH * SEQ]. `labels[i]` is the token after `ids[i]`: already shifted; -100 where there is none (a row's end). */
export interface Batch {
  readonly ids: Int32Array
  readonly labels: Int32Array
  /** How many labels are not -100. */
  readonly tokens: number
}

/** One way to train the model. `step` runs forward, backward and the optimizer, and resolves to the step's mean loss once it was read back. */
export interface Trainer {
  step(batch: Batch): Promise<number>
  /** Bytes an engine plans before it allocates, where it does plan. */
  readonly plannedBytes?: number
  dispose(): void
}

/** mulberry32, a 32-bit generator: uniform in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** Weights as a freshly initialised model has them (uniform of standard deviation 0.02), the norms near 1, A as PEFT starts it and B zero. */
export function makeWeights(seed = 1): Weights {
  const next = random(seed)
  const uniform = (count: number, bound: number, centre = 0) =>
    Float32Array.from({ length: count }, () => centre + (next() * 2 - 1) * bound)
  const spread = 0.02 * Math.sqrt(3)
  const perProjection = <T>(make: (out: number, inputs: number) => T) =>
    Object.fromEntries(PROJECTION_NAMES.map((name) => [name, make(PROJECTIONS[name][0], PROJECTIONS[name][1])])) as Record<Projection, T>
  const { hidden_size: C, vocab_size: V, num_hidden_layers } = MODEL
  return {
    embed_tokens: uniform(V * C, spread),
    layers: Array.from({ length: num_hidden_layers }, () => ({
      input_layernorm: uniform(C, 0.1, 1),
      post_attention_layernorm: uniform(C, 0.1, 1),
      projections: perProjection((out, inputs) => uniform(out * inputs, spread)),
      lora: perProjection((out, inputs) => ({ A: uniform(LORA.r * inputs, 1 / Math.sqrt(inputs)), B: new Float32Array(out * LORA.r) })),
    })),
    norm: uniform(C, 0.1, 1),
  }
}

/** A batch of a repeating pattern with noise, so that there is something to learn: token t+1 follows from token t most of the time. */
export function makeBatch(seed: number): Batch {
  const next = random(seed)
  const ids = new Int32Array(BATCH * SEQ)
  const labels = new Int32Array(BATCH * SEQ).fill(-100)
  for (let b = 0; b < BATCH; b++) {
    let token = Math.floor(next() * MODEL.vocab_size)
    for (let t = 0; t < SEQ; t++) {
      ids[b * SEQ + t] = token
      if (t > 0) labels[b * SEQ + t - 1] = token
      token = next() < 0.9 ? (token * 5 + 7) % MODEL.vocab_size : Math.floor(next() * MODEL.vocab_size)
    }
  }
  return { ids, labels, tokens: BATCH * (SEQ - 1) }
}

/** cos and sin of RoPE for positions 0…SEQ-1, each [SEQ, head_dim], frequencies repeated for both halves (Su et al., RoFormer, eq. 34, halves as in Hugging Face's `rotate_half`). */
export function ropeTables(): { cos: Float32Array; sin: Float32Array } {
  const { head_dim: D, rope_theta } = MODEL
  const angle = (i: number) => Math.floor(i / D) * rope_theta ** (-(2 * ((i % D) % (D / 2))) / D)
  const table = (f: (x: number) => number) => Float32Array.from({ length: SEQ * D }, (_, i) => f(angle(i)))
  return { cos: table(Math.cos), sin: table(Math.sin) }
}

/** A part of a group's projections, one after the other: W [G, out, in], A [G, r, in] or B [G, out, r]. */
export function stacked(layer: LayerWeights, group: Group, part: 'W' | 'A' | 'B'): Float32Array {
  const parts = GROUPS[group].members.map((name) => (part === 'W' ? layer.projections[name] : layer.lora[name][part]))
  const data = new Float32Array(parts.reduce((sum, p) => sum + p.length, 0))
  parts.forEach((p, i) => data.set(p, i * p.length))
  return data
}
