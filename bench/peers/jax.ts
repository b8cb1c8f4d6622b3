/**
 * @file The bench model in jax-js: the whole step (loss, gradients of the trained weights only, AdamW) is one function under `jit`, so that its compiler
 * sees and fuses everything; weights that are not trained are arguments without a gradient. Every array is owned once: `.ref` where it is used again.
 * Tried on lavapipe, by CPU time of a LoRA step: seven separate projections 2.44 s, q/k/v and gate/up fused 2.35 s, AdamW over one flat tensor 2.33 s,
 * both (taken) 2.36 s and a third fewer dispatches, the adapter added to the weights first 2.9 s; `nn.dotProductAttention` as fast as matmul and softmax.
 */
import { defaultDevice, getWebGPUDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax'
import { type Forward, type Matmul, type MatmulShape } from '../engines.ts'
import {
  ADAMW,
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
  type Method,
  type Trainer,
  type Weights,
} from '../model.ts'

const { hidden_size: C, num_attention_heads: H, head_dim: D, vocab_size: V, rms_norm_eps: EPS } = MODEL
const N = BATCH * SEQ
const SCALE = LORA.alpha / LORA.r

type A = np.Array
type Tree = Record<string, A>

const array = (data: Float32Array, shape: number[]) => np.array(data, { shape, dtype: np.float32 })

/** A flat tree: `embed`, `norm`, the layers' norms, `<layer>.<group>` [G·out, in]. */
function uploadBase(weights: Weights): Tree {
  const base: Tree = { embed: array(weights.embed_tokens, [V, C]), norm: array(weights.norm, [C]) }
  weights.layers.forEach((layer, i) => {
    base[`${i}.input_layernorm`] = array(layer.input_layernorm, [C])
    base[`${i}.post_attention_layernorm`] = array(layer.post_attention_layernorm, [C])
    for (const group of GROUP_NAMES) {
      const { members, out, inputs } = GROUPS[group]
      base[`${i}.${group}`] = array(stacked(layer, group, 'W'), [members.length * out, inputs])
    }
  })
  return base
}

/** A flat tree: `<layer>.<group>.A` [G·r, in] and `.B` [G, out, r]. */
function uploadAdapter(weights: Weights): Tree {
  const adapter: Tree = {}
  weights.layers.forEach((layer, i) => {
    for (const group of GROUP_NAMES) {
      const { members, out, inputs } = GROUPS[group]
      adapter[`${i}.${group}.A`] = array(stacked(layer, group, 'A'), [members.length * LORA.r, inputs])
      adapter[`${i}.${group}.B`] = array(stacked(layer, group, 'B'), [members.length, out, LORA.r])
    }
  })
  return adapter
}

/** x [N, in] · Wᵀ of a group's projections side by side [N, G·out], with LoRA's s·(x Aᵀ) Bᵀ where there is an adapter. Takes x. */
function project(x: A, base: Tree, adapter: Tree | null, layer: number, group: Group): A {
  const name = `${layer}.${group}`
  const w = np.matrixTranspose(base[name].ref)
  if (!adapter) return np.matmul(x, w)
  const G = GROUPS[group].members.length
  const h = np.matmul(x.ref, np.matrixTranspose(adapter[`${name}.A`].ref)).mul(SCALE)
  const delta = np.einsum('ngr,gor->ngo', h.reshape([N, G, LORA.r]), adapter[`${name}.B`].ref)
  return np.matmul(x, w).add(delta.reshape([N, -1]))
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

type Tables = { cos: A; sin: A }
/** What a step is given: ids and labels [N], RoPE's tables. A type, not an interface: jax-js takes trees of plain types. */
type Inputs = { ids: A; labels: A } & Tables

/** Rows of the embedding [V, C] by ids [N]. Neither takes what it is given. */
const lookUp = (table: A, ids: A): A => np.take(table.ref, ids.ref, 0)
/** The same with a gradient, which a gather does not have here: a matmul with one-hot ids. */
const lookUpTrained = (table: A, ids: A): A => np.matmul(nn.oneHot(ids.ref, V), table.ref)

/** Mean cross-entropy over the labelled tokens. Takes nothing that it is given. */
function lossOf(base: Tree, adapter: Tree | null, embed: typeof lookUp, { ids, labels, cos, sin }: Inputs): A {
  const heads = (x: A) => x.reshape([BATCH, SEQ, H, D])
  let x = embed(base.embed, ids)
  for (let i = 0; i < MODEL.num_hidden_layers; i++) {
    const normed = rmsNorm(x.ref, base[`${i}.input_layernorm`])
    const [q, k, v] = np.split(project(normed, base, adapter, i, 'qkv'), 3, 1) as [A, A, A]
    const mixed = nn.dotProductAttention(rope(heads(q), cos, sin), rope(heads(k), cos, sin), heads(v), { isCausal: true })
    x = x.add(project(mixed.reshape([N, C]), base, adapter, i, 'o'))
    const again = rmsNorm(x.ref, base[`${i}.post_attention_layernorm`])
    const [gate, up] = np.split(project(again, base, adapter, i, 'gateUp'), 2, 1) as [A, A]
    x = x.add(project(nn.silu(gate).mul(up), base, adapter, i, 'down'))
  }
  const logits = np.matmul(rmsNorm(x, base.norm), np.matrixTranspose(base.embed.ref))
  // One-hot of -100 is a row of zeros: such a position adds nothing.
  const picked = nn.logSoftmax(logits, 1).mul(nn.oneHot(labels.ref, V))
  return np.negative(picked.sum()).div(N - BATCH)
}

/** Trained weights by name; both moments as one flat tensor each, in the weights' order. */

type State = { p: Tree; m: A; v: A }
/** Scalars of AdamW's reordered form (Kingma & Ba, Adam, section 2): the step size and the corrected eps, as [1] arrays. */

type Scalars = { size: A; eps: A }

function adamw({ p, m, v }: State, grads: Tree, { size, eps }: Scalars): State {
  const { beta1, beta2 } = ADAMW
  const names = Object.keys(p)
  const g = np.concatenate(names.map((name) => grads[name].reshape([-1])))
  const nextM = m.mul(beta1).add(g.ref.mul(1 - beta1))
  const nextV = v.mul(beta2).add(np.square(g).mul(1 - beta2))
  const update = nextM.ref.div(np.sqrt(nextV.ref).add(eps)).mul(size)
  const nextP: Tree = {}
  let offset = 0
  for (const name of names) {
    const { shape, size: count } = p[name]
    nextP[name] = p[name].sub(update.ref.slice([offset, offset + count]).reshape(shape))
    offset += count
  }
  update.dispose()
  return { p: nextP, m: nextM, v: nextV }
}

/** Throws where jax-js finds no WebGPU. */
async function useWebGpu(): Promise<void> {
  const devices = await init('webgpu')
  if (!devices.includes('webgpu')) throw new Error('jax-js has no WebGPU here')
  defaultDevice('webgpu')
}

/** RoPE's tables [T, 1, D/2]. */
function uploadTables(): Tables {
  const halves = (table: Float32Array) =>
    array(
      table.filter((_, i) => i % D < D / 2),
      [SEQ, 1, D / 2],
    )
  const { cos, sin } = ropeTables()
  return { cos: halves(cos), sin: halves(sin) }
}

function uploadBatch({ ids, labels }: Batch, tables: Tables): Inputs {
  return { ids: np.array(ids, { dtype: np.int32 }), labels: np.array(labels, { dtype: np.int32 }), ...tree.ref(tables) }
}

export async function create(weights: Weights, method: Method): Promise<Trainer> {
  await useWebGpu()
  const base = uploadBase(weights)
  const lora = method === 'lora'
  const frozen: Tree = lora ? base : {}
  const tables = uploadTables()

  const loss = (trained: Tree, frozen: Tree, inputs: Inputs): A => {
    const result = lora ? lossOf(frozen, trained, lookUp, inputs) : lossOf(trained, null, lookUpTrained, inputs)
    tree.dispose([trained, frozen, inputs])
    return result
  }
  const train = jit((state: State, frozen: Tree, inputs: Inputs, scalars: Scalars): [A, State] => {
    const [value, grads] = valueAndGrad(loss)(tree.ref(state.p), frozen, inputs)
    return [value, adamw(state, grads, scalars)]
  })

  const p = lora ? uploadAdapter(weights) : base
  const count = Object.values(p).reduce((sum, w) => sum + w.size, 0)
  let state: State = { p, m: np.zeros([count]), v: np.zeros([count]) }
  let step = 0
  return {
    async step(batch: Batch) {
      step += 1
      const { lr, beta1, beta2, eps } = ADAMW
      const correction = Math.sqrt(1 - beta2 ** step)
      const scalars = { size: np.array([(lr * correction) / (1 - beta1 ** step)]), eps: np.array([eps * correction]) }
      const [value, next] = train(state, tree.ref(frozen), uploadBatch(batch, tables), scalars)
      state = next
      return ((await value.data()) as Float32Array)[0]
    },
    dispose() {
      tree.dispose([state, frozen, tables])
      train.dispose()
    },
  }
}

export async function createForward(weights: Weights): Promise<Forward> {
  await useWebGpu()
  const base = uploadBase(weights)
  const tables = uploadTables()
  const forward = jit((base: Tree, inputs: Inputs): A => {
    const result = lossOf(base, null, lookUp, inputs)
    tree.dispose([base, inputs])
    return result
  })
  return {
    loss: async (batch: Batch) => ((await forward(tree.ref(base), uploadBatch(batch, tables)).data()) as Float32Array)[0],
    dispose() {
      tree.dispose([base, tables])
      forward.dispose()
    },
  }
}

/** A [M, K] · B [K, N]. */
export async function createMatmul({ M, N, K }: MatmulShape, a: Float32Array, b: Float32Array): Promise<Matmul> {
  await useWebGpu()
  const [left, right] = [array(a, [M, K]), array(b, [K, N])]
  const multiply = jit((x: A, y: A): A => np.matmul(x, y))
  let product = multiply(left.ref, right.ref)
  return {
    async run(times) {
      for (let i = 0; i < times; i++) {
        product.dispose()
        product = multiply(left.ref, right.ref)
        // Nothing is submitted before somebody asks for it, and a product that is disposed of before that is never computed.
        await product.ref.gpuBuffer()
      }
      await getWebGPUDevice().queue.onSubmittedWorkDone()
    },
    read: async () => (await product.ref.data()) as Float32Array,
    dispose() {
      tree.dispose([left, right, product])
      multiply.dispose()
    },
  }
}
