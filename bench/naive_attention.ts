/** @file The attention that everyone writes first, causal and of grouped heads: an invocation a row and head, every operand read from memory each time. Softmax as it
 * comes (Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867, alg. 3), its gradient by the log-sum-exp that the forward pass leaves. */
import { benchDevice, kernel, readFloats, storageBuffer } from './device.ts'
import type { Work } from './ladder.ts'

export interface AttentionShape {
  readonly tokens: number
  /** Query heads, a multiple of those of keys and values. */
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
}

/** Floats of a row [q heads | k heads | v heads]. */
export const widthOf = ({ heads, kvHeads, headDim }: AttentionShape): number => (heads + 2 * kvHeads) * headDim

/** q, k, v of a head at a row, scores of a pair, and the gradient of a score once P and dP are known. */
const common = (s: AttentionShape): string => `
const T = ${s.tokens}u; const H = ${s.heads}u; const KV = ${s.kvHeads}u; const D = ${s.headDim}u; const W = ${widthOf(s)}u;
const SCALE = ${1 / Math.sqrt(s.headDim)};
fn q_at(t: u32, h: u32) -> u32 { return t * W + h * D; }
fn k_at(j: u32, kv: u32) -> u32 { return j * W + (H + kv) * D; }
fn v_at(j: u32, kv: u32) -> u32 { return j * W + (H + KV + kv) * D; }
fn o_at(t: u32, h: u32) -> u32 { return (t * H + h) * D; }
fn score(t: u32, h: u32, j: u32) -> f32 {
  var s = 0.0;
  for (var d = 0u; d < D; d++) { s += qkv[q_at(t, h) + d] * qkv[k_at(j, h / (H / KV)) + d]; }
  return s * SCALE;
}`

const BINDINGS = {
  qkv: 'read',
  out: 'read_write',
  stats: 'read_write',
  dout: 'read',
  dqkv: 'read_write',
} as const
type Name = keyof typeof BINDINGS

/** `stats`: of each row and head, the log-sum-exp of its scores and rowsum(dout · out). */
const FORWARD = `
  let kv = h / (H / KV);
  var o = array<f32, D>();
  var top = -1e30;
  var sum = 0.0;
  for (var j = 0u; j <= t; j++) {
    let s = score(t, h, j);
    let next = max(top, s);
    let fade = exp(top - next);
    let p = exp(s - next);
    sum = sum * fade + p;
    for (var d = 0u; d < D; d++) { o[d] = o[d] * fade + p * qkv[v_at(j, kv) + d]; }
    top = next;
  }
  for (var d = 0u; d < D; d++) { out[o_at(t, h) + d] = o[d] / sum; }
  stats[t * H + h] = vec2f(top + log(sum), 0.0);`

const DQ = `
  let kv = h / (H / KV);
  var delta = 0.0;
  for (var d = 0u; d < D; d++) { delta += dout[o_at(t, h) + d] * out[o_at(t, h) + d]; }
  let lse = stats[t * H + h].x;
  stats[t * H + h].y = delta;
  var dq = array<f32, D>();
  for (var j = 0u; j <= t; j++) {
    var dp = 0.0;
    for (var d = 0u; d < D; d++) { dp += dout[o_at(t, h) + d] * qkv[v_at(j, kv) + d]; }
    let ds = exp(score(t, h, j) - lse) * (dp - delta) * SCALE;
    for (var d = 0u; d < D; d++) { dq[d] += ds * qkv[k_at(j, kv) + d]; }
  }
  for (var d = 0u; d < D; d++) { dqkv[q_at(t, h) + d] = dq[d]; }`

/** t and h are a key and a head of keys. */
const DKV = `
  var dk = array<f32, D>();
  var dv = array<f32, D>();
  for (var g = h * (H / KV); g < (h + 1u) * (H / KV); g++) {
    for (var r = t; r < T; r++) {
      var dp = 0.0;
      for (var d = 0u; d < D; d++) { dp += dout[o_at(r, g) + d] * qkv[v_at(t, h) + d]; }
      let stat = stats[r * H + g];
      let p = exp(score(r, g, t) - stat.x);
      let ds = p * (dp - stat.y) * SCALE;
      for (var d = 0u; d < D; d++) {
        dv[d] += p * dout[o_at(r, g) + d];
        dk[d] += ds * qkv[q_at(r, g) + d];
      }
    }
  }
  for (var d = 0u; d < D; d++) {
    dqkv[k_at(t, h) + d] = dk[d];
    dqkv[v_at(t, h) + d] = dv[d];
  }`

const PASSES: readonly { readonly body: string; readonly names: readonly Name[]; readonly keys?: true }[] = [
  { body: FORWARD, names: ['qkv', 'out', 'stats'] },
  { body: DQ, names: ['qkv', 'out', 'stats', 'dout', 'dqkv'] },
  { body: DKV, names: ['qkv', 'stats', 'dout', 'dqkv'], keys: true },
]

/** Forward, gradient by q, gradient by k and v. @param qkv [T, W]  @param dout [T, H headDim]. */
export async function naiveAttention(s: AttentionShape, qkv: Float32Array<ArrayBuffer>, dout: Float32Array<ArrayBuffer>): Promise<Work> {
  const device = await benchDevice()
  const buffers: Readonly<Record<Name, GPUBuffer>> = {
    qkv: storageBuffer(device, qkv),
    out: storageBuffer(device, dout.byteLength),
    stats: storageBuffer(device, s.tokens * s.heads * 8),
    dout: storageBuffer(device, dout),
    dqkv: storageBuffer(device, qkv.byteLength),
  }
  const runs = PASSES.map(({ body, names, keys }) => {
    const bindings = names.map(
      (name, i) => `@group(0) @binding(${i}) var<storage, ${BINDINGS[name]}> ${name}: array<${name === 'stats' ? 'vec2f' : 'f32'}>;`,
    )
    const code = `${bindings.join('\n')}
${common(s)}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let t = id.x;
  let h = id.y;
  if (t >= T) { return; }
  ${body}
}`
    const bound = names.map((name) => buffers[name])
    return kernel(device, code, bound, [Math.ceil(s.tokens / 64), keys ? s.kvHeads : s.heads])
  })
  return {
    runs,
    results: async () => splitGradient(s, await readFloats(device, buffers.out), await readFloats(device, buffers.dqkv)),
    dispose: () => {
      for (const buffer of Object.values(buffers)) buffer.destroy()
    },
  }
}

/** What each pass has computed: out, the columns of q of dqkv, and those of k and v. */
export function splitGradient(s: AttentionShape, out: Float32Array, dqkv: Float32Array): readonly Float32Array[] {
  const [width, queries] = [widthOf(s), s.heads * s.headDim]
  const columns = (from: number, to: number): Float32Array => dqkv.filter((_, i) => i % width >= from && i % width < to)
  return [out, columns(0, queries), columns(queries, width)]
}
