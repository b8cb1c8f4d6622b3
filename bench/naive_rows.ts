/** @file The optimizer, RMSNorm and cross-entropy that everyone writes first: an element or a row an invocation, a float at a time. */
import { ADAMW_DEFAULTS } from '../src/optim/adamw.ts'
import { benchDevice, kernel, readFloats, storageBuffer } from './device.ts'
import type { Work } from './ladder.ts'

type Buffers = Readonly<
  Record<string, { readonly contents: Float32Array<ArrayBuffer> | number; readonly type?: string; readonly write?: true }>
>
interface Program {
  /** Buffers that it uses, in binding order. */
  readonly names: readonly string[]
  /** WGSL with the invocation's number in `i`. */
  readonly body: string
  readonly invocations: number
}

/** Kernels over buffers that they share. @param results names of the buffers that the kernels' results lie in. */
async function programs(buffers: Buffers, list: readonly Program[], results: readonly string[]): Promise<Work> {
  const device = await benchDevice()
  const made = Object.fromEntries(Object.entries(buffers).map(([name, { contents }]) => [name, storageBuffer(device, contents)]))
  const runs = list.map(({ names, body, invocations }) => {
    const bindings = names.map((name, i) => {
      const { type = 'f32', write } = buffers[name]
      return `@group(0) @binding(${i}) var<storage, ${write ? 'read_write' : 'read'}> ${name}: array<${type}>;`
    })
    const groups = Math.ceil(invocations / 64)
    const across = Math.min(groups, 32768)
    const code = `${bindings.join('\n')}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= ${invocations}u) { return; }
  ${body}
}`
    const bound = names.map((name) => made[name])
    return kernel(device, code, bound, [across, Math.ceil(groups / across)])
  })
  return {
    runs,
    results: async () => {
      const read: Float32Array[] = []
      for (const name of results) read.push(await readFloats(device, made[name]))
      return read
    },
    dispose: () => {
      for (const buffer of Object.values(made)) buffer.destroy()
    },
  }
}

type Floats = Float32Array<ArrayBuffer>

/** First step of AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101, alg. 2) from moments of zero; the gradient is cleared. */
export function naiveAdamW(param: Floats, grad: Floats, { lr, weightDecay }: { lr: number; weightDecay: number }): Promise<Work> {
  const { beta1, beta2, eps } = ADAMW_DEFAULTS
  const body = `
  let g = grad[i];
  grad[i] = 0.0;
  m[i] += (g - m[i]) * ${1 - beta1};
  v[i] = v[i] * ${beta2} + g * g * ${1 - beta2};
  param[i] = param[i] * ${1 - lr * weightDecay} - ${lr / (1 - beta1)} * m[i] / (sqrt(v[i]) / ${Math.sqrt(1 - beta2)} + ${eps});`
  const state = { param: param, grad: grad, m: param.byteLength, v: param.byteLength }
  const buffers: Buffers = Object.fromEntries(Object.entries(state).map(([name, contents]) => [name, { contents, write: true }]))
  return programs(buffers, [{ names: ['param', 'grad', 'm', 'v'], body, invocations: param.length }], ['param'])
}

/** RMSNorm of x [rows, width] (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4), and its gradient by x for dy. Results: y, dx. */
export function naiveNorm(x: Floats, weight: Floats, dy: Floats, eps: number): Promise<Work> {
  const width = weight.length
  const rows = x.length / width
  const root = `
  var squares = 0.0;
  for (var c = 0u; c < ${width}u; c++) { let a = x[i * ${width}u + c]; squares += a * a; }
  let inverse = inverseSqrt(squares / ${width}.0 + ${eps});`
  const forward = `${root}
  for (var c = 0u; c < ${width}u; c++) { let at = i * ${width}u + c; y[at] = x[at] * inverse * weight[c]; }`
  const backward = `${root}
  var slope = 0.0;
  for (var c = 0u; c < ${width}u; c++) { let at = i * ${width}u + c; slope += dy[at] * weight[c] * x[at]; }
  slope *= inverse * inverse / ${width}.0;
  for (var c = 0u; c < ${width}u; c++) { let at = i * ${width}u + c; dx[at] = (dy[at] * weight[c] - x[at] * slope) * inverse; }`
  return programs(
    {
      x: { contents: x },
      weight: { contents: weight },
      dy: { contents: dy },
      y: { contents: x.byteLength, write: true },
      dx: { contents: x.byteLength, write: true },
    },
    [
      { names: ['x', 'weight', 'y'], body: forward, invocations: rows },
      { names: ['x', 'weight', 'dy', 'dx'], body: backward, invocations: rows },
    ],
    ['y', 'dx'],
  )
}

/** Cross-entropy of logits [targets, width], which become its gradient times `scale`. Result: the gradient. */
export function naiveCrossEntropy(logits: Floats, targets: Uint32Array<ArrayBuffer>, scale: number): Promise<Work> {
  const width = logits.length / targets.length
  const body = `
  let row = i * ${width}u;
  var top = logits[row];
  for (var c = 0u; c < ${width}u; c++) { top = max(top, logits[row + c]); }
  var sum = 0.0;
  for (var c = 0u; c < ${width}u; c++) { sum += exp(logits[row + c] - top); }
  let label = targets[i];
  loss[i] = log(sum) + top - logits[row + label];
  for (var c = 0u; c < ${width}u; c++) {
    logits[row + c] = (exp(logits[row + c] - top) / sum - select(0.0, 1.0, c == label)) * ${scale};
  }`
  return programs(
    {
      logits: { contents: logits, write: true },
      targets: { contents: new Float32Array(targets.buffer), type: 'u32' },
      loss: { contents: targets.byteLength, write: true },
    },
    [{ names: ['logits', 'targets', 'loss'], body, invocations: targets.length }],
    ['logits'],
  )
}
