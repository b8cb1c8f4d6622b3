/**
 * @file The bench model's forward pass and loss in TensorFlow.js, as fast as its public operations allow: q/k/v and gate/up as one batched matmul each, a
 * hand-written gradient (`tf.customGrad`) for every block of operations so that nothing is computed for frozen weights, and scores scaled for free in the
 * RoPE tables.
 */
import * as tf from '@tensorflow/tfjs'
import {
  BATCH,
  GROUPS,
  GROUP_NAMES,
  LORA,
  MODEL,
  SEQ,
  ropeTables,
  stacked,
  type Batch,
  type Group,
  type LayerWeights,
  type Method,
  type Weights,
} from '../model.ts'

const { hidden_size: C, num_attention_heads: H, head_dim: D, vocab_size: V, num_hidden_layers: LAYERS, rms_norm_eps: EPS } = MODEL
const N = BATCH * SEQ
const SCALE = LORA.alpha / LORA.r

export type Tensors = Readonly<Record<string, tf.Tensor>>

/** Every weight by name: `<layer>.<group>.W` [G, out, in], norms [C], `embed` [V, C]; for LoRA also `<layer>.<group>.A` [G, r, in] and `.B` [G, out, r]. */
export function upload(weights: Weights, method: Method): Record<string, tf.Tensor> {
  const stack = (layer: LayerWeights, group: Group, part: 'W' | 'A' | 'B', rows: number, columns: number) =>
    tf.tensor3d(stacked(layer, group, part), [GROUPS[group].members.length, rows, columns])
  const all: Record<string, tf.Tensor> = { embed: tf.tensor2d(weights.embed_tokens, [V, C]), norm: tf.tensor1d(weights.norm) }
  weights.layers.forEach((layer, i) => {
    all[`${i}.input_layernorm`] = tf.tensor1d(layer.input_layernorm)
    all[`${i}.post_attention_layernorm`] = tf.tensor1d(layer.post_attention_layernorm)
    for (const group of GROUP_NAMES) {
      const { out, inputs } = GROUPS[group]
      all[`${i}.${group}.W`] = stack(layer, group, 'W', out, inputs)
      if (method === 'full') continue
      all[`${i}.${group}.A`] = stack(layer, group, 'A', LORA.r, inputs)
      all[`${i}.${group}.B`] = stack(layer, group, 'B', out, LORA.r)
    }
  })
  return all
}

/** [G, N, K] → [N, G·K], so that a sum over G becomes part of a matmul's inner sum. */
const sideBySide = (x: tf.Tensor): tf.Tensor2D => (x.shape[0] === 1 ? x.reshape([N, -1]) : x.transpose([1, 0, 2]).reshape([N, -1]))
const flatRows = (w: tf.Tensor): tf.Tensor2D => w.reshape([-1, w.shape[2]!])

/** x [N, in] through a group's weights → [G, N, out]. LoRA adds s·(x Aᵀ) Bᵀ. Without `needsInput` no gradient of x is made. */
function project(x: tf.Tensor, w: Tensors, name: string, method: Method, needsInput: boolean): tf.Tensor {
  const [W, A, B] = [w[`${name}.W`], w[`${name}.A`], w[`${name}.B`]]
  const batched = x.reshape([1, N, -1])
  if (method === 'full') {
    return tf.customGrad((input, weight) => ({
      value: tf.matMul((input as tf.Tensor).reshape([1, N, -1]), weight as tf.Tensor, false, true),
      gradFunc: (dy: tf.Tensor) => [tf.matMul(sideBySide(dy), flatRows(W)), tf.matMul(dy, batched, true, false)],
    }))(x, W)
  }
  const forward = (save: tf.GradSaveFunc) => {
    const h = tf.matMul(batched, A, false, true).mul(SCALE)
    save([h])
    return tf.add(tf.matMul(batched, W, false, true), tf.matMul(h, B, false, true))
  }
  const backward = (dy: tf.Tensor, h: tf.Tensor) => {
    const dh = tf.matMul(dy, B).mul(SCALE)
    const dx = () => tf.add(tf.matMul(sideBySide(dy), flatRows(W)), tf.matMul(sideBySide(dh), flatRows(A)))
    return [...(needsInput ? [dx()] : []), tf.matMul(dh, batched, true, false), tf.matMul(dy, h, true, false)]
  }
  const op = tf.customGrad((...args) => ({
    value: forward(args.at(-1) as unknown as tf.GradSaveFunc),
    gradFunc: (dy: tf.Tensor, [h]: tf.Tensor[]) => backward(dy, h),
  }))
  return needsInput ? op(x, A, B) : op(A, B)
}

/** x [N, C] → x / rms(x) · w. The gradient of w only where it is trained, of x only where something below is. */
function rmsNorm(x: tf.Tensor, w: tf.Tensor, ones: tf.Tensor2D, method: Method, needsInput: boolean): tf.Tensor {
  const value = (save: (t: tf.Tensor[]) => void) => {
    const r = x.square().mean(1, true).add(EPS).rsqrt()
    const normed = x.mul(r)
    save([normed, r])
    return normed.mul(w)
  }
  if (!needsInput && method === 'lora') return value(() => undefined)
  const dx = (dy: tf.Tensor, normed: tf.Tensor, r: tf.Tensor) => {
    const g = dy.mul(w)
    return g.sub(normed.mul(g.mul(normed).mean(1, true))).mul(r)
  }
  const dw = (dy: tf.Tensor, normed: tf.Tensor) => tf.matMul(ones, dy.mul(normed).as2D(N, C)).reshape([C])
  const op = tf.customGrad((...args) => ({
    value: value(args.at(-1) as unknown as tf.GradSaveFunc),
    gradFunc: (dy: tf.Tensor, [normed, r]: tf.Tensor[]) => [dx(dy, normed, r), ...(method === 'full' ? [dw(dy, normed)] : [])],
  }))
  return method === 'full' ? op(x, w) : op(x)
}

export interface Constants {
  /** [3, 1, T, D]: q's carry 1/√D, v's are 1 and 0. */
  readonly cos: tf.Tensor
  readonly sin: tf.Tensor
  /** [D, D]: x·rotate is rotate_half(x). */
  readonly rotate: tf.Tensor2D
  /** [T, T]: 0 where a key may be seen, else a large negative number. */
  readonly mask: tf.Tensor2D
  readonly ones: tf.Tensor2D
}

export function makeConstants(): Constants {
  const { cos, sin } = ropeTables()
  const stack = (table: Float32Array, forV: number) =>
    tf.tensor4d([...table.map((x) => x / Math.sqrt(D)), ...table, ...new Float32Array(SEQ * D).fill(forV)], [3, 1, SEQ, D])
  const rotate = new Float32Array(D * D)
  for (let i = 0; i < D / 2; i++) {
    rotate[(i + D / 2) * D + i] = -1
    rotate[i * D + i + D / 2] = 1
  }
  const mask = Float32Array.from({ length: SEQ * SEQ }, (_, i) => (i % SEQ > Math.floor(i / SEQ) ? -1e9 : 0))
  return {
    cos: stack(cos, 1),
    sin: stack(sin, 0),
    rotate: tf.tensor2d(rotate, [D, D]),
    mask: tf.tensor2d(mask, [SEQ, SEQ]),
    ones: tf.ones([1, N]),
  }
}

/** qkv [3, N, C] → causal attention's output [N, C]. */
function attention(qkv: tf.Tensor, k: Constants): tf.Tensor {
  const heads = (x: tf.Tensor) =>
    x
      .reshape([3, BATCH, SEQ, H, D])
      .transpose([0, 1, 3, 2, 4])
      .reshape([3, BATCH * H, SEQ, D])
  const rope = (x: tf.Tensor) =>
    x.mul(k.cos).add(
      tf
        .matMul(x.as2D(3 * N * H, D), k.rotate)
        .reshape(x.shape)
        .mul(k.sin),
    )
  const unrope = (g: tf.Tensor) => g.mul(k.cos).add(tf.matMul(g.mul(k.sin).as2D(3 * N * H, D), k.rotate, false, true).reshape(g.shape))
  const op = tf.customGrad((input, save) => {
    const [q, key, v] = tf.unstack(rope(heads(input as tf.Tensor))) as [tf.Tensor, tf.Tensor, tf.Tensor]
    const p = tf.softmax(tf.matMul(q, key, false, true).add(k.mask))
    const o = tf.matMul(p, v)
    ;(save as tf.GradSaveFunc)([q, key, v, p, o])
    const value = o.reshape([BATCH, H, SEQ, D]).transpose([0, 2, 1, 3]).reshape([N, C])
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [q, key, v, p, o] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
      const g = dy
        .reshape([BATCH, SEQ, H, D])
        .transpose([0, 2, 1, 3])
        .reshape([BATCH * H, SEQ, D])
      const ds = tf.matMul(g, v, false, true).sub(g.mul(o).sum(2, true)).mul(p)
      const grads = tf.stack([tf.matMul(ds, key), tf.matMul(ds, q, true, false), tf.matMul(p, g, true, false)])
      return unrope(grads).reshape([3, BATCH, H, SEQ, D]).transpose([0, 1, 3, 2, 4]).reshape([3, N, C])
    }
    return { value, gradFunc }
  })
  return op(qkv)
}

/** [2, N, F] → silu(gate)·up [N, F]. */
function swiglu(gateUp: tf.Tensor): tf.Tensor {
  const op = tf.customGrad((input, save) => {
    const [gate, up] = tf.unstack(input as tf.Tensor) as [tf.Tensor, tf.Tensor]
    const sigmoid = gate.sigmoid()
    const silu = gate.mul(sigmoid)
    ;(save as tf.GradSaveFunc)([up, sigmoid, silu])
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [up, sigmoid, silu] = saved as [tf.Tensor, tf.Tensor, tf.Tensor]
      // silu' = σ + silu·(1 - σ)
      return tf.stack([dy.mul(up).mul(sigmoid.add(silu.sub(silu.mul(sigmoid)))), dy.mul(silu)])
    }
    return { value: silu.mul(up), gradFunc }
  })
  return op(gateUp)
}

/** Rows of the embedding [V, C]; its gradient is a matmul with the one-hot ids, as the backend has no scatter-add with a gradient. */
function embed(table: tf.Tensor, ids: tf.Tensor1D, method: Method): tf.Tensor {
  if (method === 'lora') return tf.gather(table, ids)
  const op = tf.customGrad((t) => ({
    value: tf.gather(t as tf.Tensor, ids),
    gradFunc: (dy: tf.Tensor) => tf.matMul(tf.oneHot(ids, V).cast('float32').as2D(N, V), dy.as2D(N, C), true, false),
  }))
  return op(table)
}

/** A batch on the GPU. */
export interface Inputs {
  /** [N] */
  readonly ids: tf.Tensor1D
  /** [N], -100 where there is none. */
  readonly labels: tf.Tensor1D
  readonly tokens: number
  /** Weight of each row in the loss, [N, 1]: 1 / tokens, and 0 where it has no label. Only the backward pass asks for it. */
  readonly rowWeights: () => tf.Tensor2D
}

export function uploadBatch({ ids, labels, tokens }: Batch): Inputs {
  const weight = (label: number) => (label === -100 ? 0 : 1 / tokens)
  return {
    ids: tf.tensor1d(ids, 'int32'),
    labels: tf.tensor1d(labels, 'int32'),
    tokens,
    rowWeights: () => tf.tensor2d(Float32Array.from(labels, weight), [N, 1]),
  }
}

/** Mean cross-entropy of logits [N, V] over the labels that are not -100. */
function crossEntropy(logits: tf.Tensor, { labels, tokens, rowWeights }: Inputs): tf.Scalar {
  const op = tf.customGrad((x, save) => {
    const wanted = tf.oneHot(labels, V, 1 / tokens, 0, 'float32')
    const logp = tf.logSoftmax(x as tf.Tensor)
    ;(save as tf.GradSaveFunc)([logp, wanted])
    return {
      value: logp.mul(wanted).sum().neg(),
      gradFunc: (dy: tf.Tensor, [logp, wanted]: tf.Tensor[]) => logp.exp().mul(rowWeights()).sub(wanted).mul(dy),
    }
  })
  return op(logits) as tf.Scalar
}

/** The whole forward pass up to the loss; `full`: without an adapter. */
export function lossOf(w: Tensors, k: Constants, method: Method, inputs: Inputs): tf.Scalar {
  let x = embed(w.embed, inputs.ids, method)
  for (let i = 0; i < LAYERS; i++) {
    const below = method === 'full' || i > 0
    const normed = rmsNorm(x, w[`${i}.input_layernorm`], k.ones, method, below)
    const mixed = attention(project(normed, w, `${i}.qkv`, method, below), k)
    x = x.add(project(mixed, w, `${i}.o`, method, true).reshape([N, C]))
    const gateUp = project(rmsNorm(x, w[`${i}.post_attention_layernorm`], k.ones, method, true), w, `${i}.gateUp`, method, true)
    x = x.add(project(swiglu(gateUp), w, `${i}.down`, method, true).reshape([N, C]))
  }
  const logits = tf.matMul(rmsNorm(x, w.norm, k.ones, method, true).as2D(N, C), w.embed, false, true)
  return crossEntropy(logits, inputs)
}
