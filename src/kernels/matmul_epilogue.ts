/** @file What a product does to its own result before it ends: the gate of an MLP, the gradient of that gate, the rotation of q and k, the new rows of a cache.
 * Shared by the families that can; used by src/tensor/fuse.ts, with alpha 1 and nothing added to the product. */
import { ACTIVATION_NAMES, activationText } from './activation.ts'
import { type MatmulFlag } from './matmul_common.ts'

/** After the bindings of matmul_common.ts. */
export const PAIR_BINDINGS = {
  act: { access: 'write', when: ['gated'] },
  positions: { access: 'read', when: ['rope'] },
  inv_freq: { access: 'read', when: ['rope'] },
  k_cache: { access: 'write', when: ['append'] },
  v_cache: { access: 'write', when: ['append'] },
} as const
export const EPILOGUE_BINDINGS = { ...PAIR_BINDINGS, gate_up: { access: 'read', when: ['ungate'] } } as const
/** pair: columns between the two of a pair. rope_cols: leading columns that are turned. kv_width: columns of the caches, row 0 becomes their row `position`. */
export const EPILOGUE_UNIFORMS = {
  pair: 'u32',
  rope_cols: 'u32',
  mscale: 'f32',
  kv_width: 'u32',
  position: 'u32',
  capacity: 'u32',
} as const
export const NO_EPILOGUE = { pair: 0, rope_cols: 0, mscale: 1, kv_width: 0, position: 0, capacity: 0 } as const

/** `paired` (NT): a workgroup has columns n and n + pair of the same 2 pair columns. Then `gated` with an activation's name: act [M, N/2] = f(gate) · up beside
 * c = gate | up; or `rope`: the pair is turned by its row's position, scaled by mscale; with `append` keys and values are new rows of the caches as well.
 * `ungate` (NN) and a name: the sum is dL/d(act), and c [M, 2 N] becomes dL/d(gate | up). */
export const PAIR_FLAGS = ['paired', 'gated', 'rope', 'append', ...ACTIVATION_NAMES] as const
export const EPILOGUE_FLAGS = [...PAIR_FLAGS, 'ungate'] as const
/** For the conformance suite. */
export const PAIR_VARIANTS = [
  ['paired', 'gated', 'silu'],
  ['paired', 'rope'],
  ['paired', 'rope', 'append'],
] as const
export const EPILOGUE_VARIANTS = (['w_f32', 'w_q4_1'] as const satisfies readonly MatmulFlag[]).flatMap(
  (w) => [...PAIR_VARIANTS.map((v) => [w, 'lora', ...v] as const), [w, 'layout_nn', 'lora', 'ungate', 'gelu_tanh']] as const,
)

const APPEND = `
  let slot = params.position + m;
  let k_from = params.rope_cols - params.kv_width;
  if (n >= k_from && slot < params.capacity) {
    if (n < params.rope_cols) {
      let to = slot * params.kv_width + n - k_from;
      k_cache[to] = c[at];
      k_cache[to + params.pair] = c[at + params.pair];
    } else {
      let to = slot * params.kv_width + n - params.rope_cols;
      v_cache[to] = x;
      v_cache[to + params.pair] = y;
    }
  }`

/** Defines pair_column(p), and finish_pair(m, p) or finish_ungating(m, n), which take what is stored in c. Called row by row in a loop: sines unrolled for every
 * row take drivers long to compile. */
export function epilogueText(flags: ReadonlySet<string>): string {
  const out: string[] = []
  if (flags.has('gated') || flags.has('ungate')) out.push(activationText(flags))
  if (flags.has('paired'))
    out.push(`// First column of the p-th pair of a row.
fn pair_column(p: u32) -> u32 { return p / params.pair * 2u * params.pair + p % params.pair; }
fn finish_pair(m: u32, p: u32) {
  let n = pair_column(p);
  let at = params.c_off + m * params.ldc + n;
  let x = c[at];
  let y = c[at + params.pair];
  ${
    flags.has('rope')
      ? `if (n < params.rope_cols) {
    let t = sin_cos(vec4f(f32(positions[m]) * inv_freq[p % params.pair]));
    c[at] = (x * t.c.x - y * t.s.x) * params.mscale;
    c[at + params.pair] = (y * t.c.x + x * t.s.x) * params.mscale;
  }${flags.has('append') ? APPEND : ''}`
      : 'act[m * (params.N / 2u) + p] = f(vec4f(x)).x * y;'
  }
}`)
  if (flags.has('ungate'))
    out.push(`// Columns n .. n + 3, where dL/d(act) was stored in place of dL/d(gate).
fn finish_ungating(m: u32, n: u32) {
  let at = m * params.ldc + n;
  let d = vec4f(c[at], c[at + 1u], c[at + 2u], c[at + 3u]);
  let gate = gate_up[at / 4u];
  let dgate = d * gate_up[(at + params.N) / 4u] * df(gate);
  let dup = d * f(gate);
  for (var i = 0u; i < 4u; i++) {
    c[at + i] = dgate[i];
    c[at + params.N + i] = dup[i];
  }
}`)
  return out.join('\n')
}
