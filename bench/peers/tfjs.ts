/**
 * @file TensorFlow.js on its WebGPU backend: the bench model's step (bench/peers/tfjs_model.ts, and AdamW over one flat tensor instead of one set of operations
 * per weight), its forward pass and a matmul. Its flags at their defaults: forcing any matmul program, threshold or a longer submit batch was no faster on
 * lavapipe (CPU time of a LoRA step 4.4 s; 4.4, 17.9 and 4.5 s).
 */
import * as tf from '@tensorflow/tfjs'
import '@tensorflow/tfjs-backend-webgpu'
import { type Forward, type Matmul, type MatmulShape } from '../engines.ts'
import { ADAMW, type Batch, type Method, type Trainer, type Weights } from '../model.ts'
import { lossOf, makeConstants, upload, uploadBatch } from './tfjs_model.ts'

/** AdamW without decay (Kingma & Ba, Adam, section 2's reordered form): the same update with both bias corrections in two scalars. */
function adamw(p: tf.Tensor, m: tf.Tensor, v: tf.Tensor, g: tf.Tensor, step: number): [tf.Tensor, tf.Tensor, tf.Tensor] {
  const { lr, beta1, beta2, eps } = ADAMW
  const correction = Math.sqrt(1 - beta2 ** step)
  const nextM = m.mul(beta1).add(g.mul(1 - beta1))
  const nextV = v.mul(beta2).add(g.square().mul(1 - beta2))
  const update = nextM.div(nextV.sqrt().add(eps * correction)).mul((lr * correction) / (1 - beta1 ** step))
  return [p.sub(update), nextM, nextV]
}

async function useWebGpu(): Promise<void> {
  await tf.setBackend('webgpu')
  await tf.ready()
}

export async function create(weights: Weights, method: Method): Promise<Trainer> {
  await useWebGpu()
  const all = upload(weights, method)
  const names = Object.keys(all).filter((name) => method === 'full' || /\.[AB]$/.test(name))
  const shapes = names.map((name) => all[name].shape)
  const sizes = names.map((name) => all[name].size)
  const constants = makeConstants()
  const flatten = (tensors: tf.Tensor[]) => tf.concat(tensors.map((t) => t.flatten()))
  const unflatten = (flat: tf.Tensor) => tf.split(flat, sizes).map((part, i) => part.reshape(shapes[i]))
  let trained = names.map((name) => all[name])
  let state = tf.tidy(() => [flatten(trained), tf.zeros([sizes.reduce((a, b) => a + b)]), tf.zeros([sizes.reduce((a, b) => a + b)])])
  let step = 0

  return {
    async step(batch: Batch) {
      step += 1
      const before = [...trained, ...state]
      const out = tf.tidy(() => {
        const inputs = uploadBatch(batch)
        const forward = (...params: tf.Tensor[]) => {
          const w = { ...all, ...Object.fromEntries(names.map((name, i) => [name, params[i]])) }
          return lossOf(w, constants, method, inputs)
        }
        const { value, grads } = tf.valueAndGrads(forward)(trained)
        const next = adamw(state[0], state[1], state[2], flatten(grads), step)
        return [value, ...next, ...unflatten(next[0])]
      })
      const loss = out[0]
      state = out.slice(1, 4)
      trained = out.slice(4)
      tf.dispose(before)
      const value = (await loss.data())[0]
      loss.dispose()
      return value
    },
    dispose() {
      tf.dispose([all, trained, state, { ...constants }])
    },
  }
}

export async function createForward(weights: Weights): Promise<Forward> {
  await useWebGpu()
  const all = upload(weights, 'full')
  const constants = makeConstants()
  return {
    async loss(batch: Batch) {
      const loss = tf.tidy(() => lossOf(all, constants, 'full', uploadBatch(batch)))
      const value = (await loss.data())[0]
      loss.dispose()
      return value
    },
    dispose: () => tf.dispose([all, { ...constants }]),
  }
}

/** A [M, K] · B [K, N]. */
export async function createMatmul({ M, N, K }: MatmulShape, a: Float32Array, b: Float32Array): Promise<Matmul> {
  await useWebGpu()
  const [left, right] = [tf.tensor2d(a, [M, K]), tf.tensor2d(b, [K, N])]
  let product = tf.matMul(left, right)
  return {
    async run(times) {
      for (let i = 0; i < times; i++) {
        // Recorded as it is called: a product that is disposed of is computed all the same.
        product.dispose()
        product = tf.matMul(left, right)
      }
      // Reading one element back flushes the queue, which has no public flush of its own.
      const one = tf.slice(product, [0, 0], [1, 1])
      await one.data()
      one.dispose()
    },
    read: async () => (await product.data()) as Float32Array,
    dispose: () => tf.dispose([left, right, product]),
  }
}
