/**
 * @file The bench model in jax-js: the whole step (loss, gradients of the trained weights only, AdamW) is one function under `jit`, so that its compiler
 * sees and fuses everything; weights that are not trained are arguments without a gradient. Every array is owned once: `.ref` where it is used again.
 */
import { defaultDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax'
import {
  ADAMW,
  BATCH,
  LORA,
  MODEL,
  SEQ,
  ropeTables,
  PROJECTION_NAMES,
  PROJECTIONS,
  type Batch,
  type Method,
  type Trainer,
  type Weights,
} from '../model.ts'

const { hidden_size: C, num_attention_heads: H, head_dim: D, vocab_size: V, rms_norm_eps: EPS } = MODEL
const N = BATCH * SEQ
const SCALE = LORA.alpha / LORA.r

type A = np.Array
type Tree = { [name: string]: A }

const array = (data: Float32Array, shape: number[]) => np.array(data, { shape, dtype: np.float32 })

/** Base weights and adapter as two flat trees: `embed`, `norm`, `<layer>.<name>` [out, in]; the adapter `<layer>.<name>.A` and `.B`. */
function upload(weights: Weights): { base: Tree; adapter: Tree } {
  const base: Tree = { embed: array(weights.embed_tokens, [V, C]), norm: array(weights.norm, [C]) }
  const adapter: Tree = {}
  weights.layers.forEach((layer, i) => {
    base[`${i}.input_layernorm`] = array(layer.input_layernorm, [C])
    base[`${i}.post_attention_layernorm`] = array(layer.post_attention_layernorm, [C])
    for (const name of PROJECTION_NAMES) {
      const [out, inputs] = PROJECTIONS[name]
      base[`${i}.${name}`] = array(layer.projections[name], [out, inputs])
      adapter[`${i}.${name}.A`] = array(layer.lora[name].A, [LORA.r, inputs])
      adapter[`${i}.${name}.B`] = array(layer.lora[name].B, [out, LORA.r])
    }
  })
  return { base, adapter }
}

/** x [N, in] · Wᵀ, with LoRA's s·(x Aᵀ) Bᵀ where there is an adapter. Takes x. */
function linear(x: A, base: Tree, adapter: Tree | null, name: string): A {
  const w = np.matrixTranspose(base[name]!.ref)
  if (!adapter) return np.matmul(x, w)
  const down = np.matmul(x.ref, np.matrixTranspose(adapter[`${name}.A`]!.ref)).mul(SCALE)
  return np.matmul(x, w).add(np.matmul(down, np.matrixTranspose(adapter[`${name}.B`]!.ref)))
}

/** x [N, C] / rms(x) · w. Takes x. */
function rmsNorm(x: A, w: A): A {
  const meanSquare = np.mean(np.square(x.ref), 1, { keepdims: true })
  return x.mul(np.reciprocal(np.sqrt(meanSquare.add(EPS)))).mul(w.ref)
}

/** RoPE on x [B, T, H, D] with tables [T, 1, D/2]. Takes x. */
function rope(x: A, cos: A, sin: A): A {
  const [a, b] = np.split(x, 2, 3) as [A, A]
  return np.concatenate([a.ref.mul(cos.ref).sub(b.ref.mul(sin.ref)), b.mul(cos.ref).add(a.mul(sin.ref))], 3)
}

interface Inputs {
  /** One-hot ids [N, V], or ids [N]. */
  ids: A
  labels: A
  cos: A
  sin: A
}

/** Mean cross-entropy over the labelled tokens. Takes nothing that it is given. */
function lossOf(base: Tree, adapter: Tree | null, { ids, labels, cos, sin }: Inputs): A {
  const heads = (x: A) => x.reshape([BATCH, SEQ, H, D])
  // A gather has no gradient here: trained embeddings are looked up by a matmul with one-hot ids.
  let x = adapter ? np.take(base.embed!.ref, ids.ref, 0) : np.matmul(nn.oneHot(ids.ref, V), base.embed!.ref)
  for (let i = 0; i < MODEL.num_hidden_layers; i++) {
    const normed = rmsNorm(x.ref, base[`${i}.input_layernorm`]!)
    const q = rope(heads(linear(normed.ref, base, adapter, `${i}.q_proj`)), cos, sin)
    const k = rope(heads(linear(normed.ref, base, adapter, `${i}.k_proj`)), cos, sin)
    const v = heads(linear(normed, base, adapter, `${i}.v_proj`))
    const mixed = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([N, C])
    x = x.add(linear(mixed, base, adapter, `${i}.o_proj`))
    const again = rmsNorm(x.ref, base[`${i}.post_attention_layernorm`]!)
    const gate = nn.silu(linear(again.ref, base, adapter, `${i}.gate_proj`))
    x = x.add(linear(gate.mul(linear(again, base, adapter, `${i}.up_proj`)), base, adapter, `${i}.down_proj`))
  }
  const logits = np.matmul(rmsNorm(x, base.norm!), np.matrixTranspose(base.embed!.ref))
  // One-hot of -100 is a row of zeros: such a position adds nothing.
  const picked = nn.logSoftmax(logits, 1).mul(nn.oneHot(labels.ref, V))
  return np.negative(picked.sum()).div(N - BATCH)
}

type Moments = { p: Tree; m: Tree; v: Tree }
/** Scalars of AdamW's reordered form (Kingma & Ba, Adam, section 2): the step size and the corrected eps, as [1] arrays. */
type Scalars = { size: A; eps: A }

function adamw({ p, m, v }: Moments, grads: Tree, { size, eps }: Scalars): Moments {
  const { beta1, beta2 } = ADAMW
  const next: Moments = { p: {}, m: {}, v: {} }
  for (const name of Object.keys(p)) {
    const g = grads[name]!
    const newM = m[name]!.mul(beta1).add(g.ref.mul(1 - beta1))
    const newV = v[name]!.mul(beta2).add(np.square(g).mul(1 - beta2))
    next.p[name] = p[name]!.sub(newM.ref.div(np.sqrt(newV.ref).add(eps.ref)).mul(size.ref))
    next.m[name] = newM
    next.v[name] = newV
  }
  size.dispose()
  eps.dispose()
  return next
}

export async function create(weights: Weights, method: Method): Promise<Trainer> {
  const devices = await init('webgpu')
  if (!devices.includes('webgpu')) throw new Error('jax-js has no WebGPU here')
  defaultDevice('webgpu')
  const { base, adapter } = upload(weights)
  const lora = method === 'lora'
  const tables = ropeTables()
  const halves = (table: Float32Array) =>
    array(
      table.filter((_, i) => i % D < D / 2),
      [SEQ, 1, D / 2],
    )
  const frozen: Tree = lora ? base : {}
  const fixed: Tree = { cos: halves(tables.cos), sin: halves(tables.sin) }

  const loss = (trained: Tree, frozen: Tree, inputs: Inputs): A => {
    const result = lora ? lossOf(frozen, trained, inputs) : lossOf(trained, null, inputs)
    tree.dispose(trained)
    tree.dispose(frozen)
    tree.dispose(inputs as unknown as Tree)
    return result
  }
  const train = jit((state: Moments, frozen: Tree, inputs: Inputs, scalars: Scalars): [A, Moments] => {
    const [value, grads] = valueAndGrad(loss)(tree.ref(state.p), frozen, inputs)
    return [value, adamw(state, grads as Tree, scalars)]
  })

  const start = lora ? adapter : base
  const zeros = () => Object.fromEntries(Object.entries(start).map(([name, w]) => [name, np.zeros(w.shape)]))
  let state: Moments = { p: start, m: zeros(), v: zeros() }
  if (!lora) tree.dispose(adapter)
  let step = 0
  return {
    async step({ ids, labels }: Batch) {
      step += 1
      const { lr, beta1, beta2, eps } = ADAMW
      const correction = Math.sqrt(1 - beta2 ** step)
      const scalars = { size: np.array([(lr * correction) / (1 - beta1 ** step)]), eps: np.array([eps * correction]) }
      const inputs = {
        ids: np.array(ids, { dtype: np.int32 }),
        labels: np.array(labels, { dtype: np.int32 }),
        ...tree.ref(fixed),
      } as unknown as Inputs
      const [value, next] = train(state, tree.ref(frozen), inputs, scalars)
      state = next
      return (await value.data())[0]!
    },
    dispose() {
      tree.dispose(state as unknown as Tree)
      tree.dispose(frozen)
      tree.dispose(fixed)
      train.dispose()
    },
  }
}
