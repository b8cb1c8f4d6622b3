/**
 * @file The bench model's forward pass and mean loss as an ONNX graph of standard operators (opset 23), no attention operator among them; weights are
 * constants of the graph, so that the runtime may lay them out as it likes. To be few dispatches, q/k/v and gate/up are one product each, norms one operator,
 * and the scale of the scores lies in RoPE's tables.
 */
import { BATCH, GROUPS, type Group, type LayerWeights, MODEL, SEQ, type Weights, ropeTables, stacked } from '../model.ts'
import { onnxModel, type OnnxNode, type OnnxTensor } from './onnx_proto.ts'

const { hidden_size: C, num_attention_heads: H, head_dim: D, vocab_size: V, rms_norm_eps: EPS } = MODEL
const N = BATCH * SEQ

/** A graph that grows; values are known by their names. */
class Builder {
  readonly nodes: OnnxNode[] = []
  readonly constants: OnnxTensor[] = []
  #made = 0

  #name(): string {
    return `v${this.#made++}`
  }
  f32(shape: readonly number[], data: Float32Array): string {
    const name = this.#name()
    this.constants.push({ name, type: 'f32', shape, data })
    return name
  }
  i64(values: readonly number[]): string {
    const name = this.#name()
    this.constants.push({ name, type: 'i64', shape: [values.length], data: BigInt64Array.from(values, BigInt) })
    return name
  }
  #add(count: number, node: Omit<OnnxNode, 'outputs'>): string[] {
    const outputs = Array.from({ length: count }, () => this.#name())
    this.nodes.push({ ...node, outputs })
    return outputs
  }
  op(op: string, inputs: readonly string[], attributes: OnnxNode['attributes'] = {}, floats: OnnxNode['floats'] = {}): string {
    return this.#add(1, { op, inputs, attributes, floats })[0]
  }
  /** Two parts along an axis, of equal size unless `sizes` says otherwise. */
  split(x: string, axis: number, sizes?: readonly [number, number]): string[] {
    return sizes
      ? this.#add(2, { op: 'Split', inputs: [x, this.i64(sizes)], attributes: { axis } })
      : this.#add(2, { op: 'Split', inputs: [x], attributes: { axis, num_outputs: 2 } })
  }
  reshape(x: string, shape: readonly number[]): string {
    return this.op('Reshape', [x, this.i64(shape)])
  }
}

/** [rows, columns] → [columns, rows], row-major. */
function transposed(data: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from({ length: data.length }, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)])
}

/** Constants that all layers share. */
interface Shared {
  /** [2, 1, 1, T, D]: q's carry 1/√D; the first half of sin is negative, as it meets the second half of x. */
  readonly cos: string
  readonly sin: string
  /** [T, T]: 0 where a key may be seen, else a large negative number. */
  readonly mask: string
}

function sharedConstants(g: Builder): Shared {
  const { cos, sin } = ropeTables()
  const both = (table: Float32Array) => g.f32([2, 1, 1, SEQ, D], Float32Array.from([...table.map((x) => x / Math.sqrt(D)), ...table]))
  return {
    cos: both(cos),
    sin: both(sin.map((x, i) => (i % D < D / 2 ? -x : x))),
    mask: g.f32(
      [SEQ, SEQ],
      Float32Array.from({ length: SEQ * SEQ }, (_, i) => (i % SEQ > Math.floor(i / SEQ) ? -1e9 : 0)),
    ),
  }
}

/** x [N, C] / rms(x) · w. */
const rmsNorm = (g: Builder, x: string, w: Float32Array): string =>
  g.op('RMSNormalization', [x, g.f32([C], w)], { axis: 1 }, { epsilon: EPS })

/** x [N, in] · Wᵀ of a group's projections side by side [N, G·out]. */
function project(g: Builder, x: string, layer: LayerWeights, group: Group): string {
  const { members, out, inputs } = GROUPS[group]
  const rows = members.length * out
  return g.op('MatMul', [x, g.f32([inputs, rows], transposed(stacked(layer, group, 'W'), rows, inputs))])
}

/** RoPE on x [2, B, H, T, D], q and k. */
function rope(g: Builder, x: string, { cos, sin }: Shared): string {
  const [a, b] = g.split(x, 4)
  const turned = g.op('Concat', [b, a], { axis: 4 })
  return g.op('Add', [g.op('Mul', [x, cos]), g.op('Mul', [turned, sin])])
}

/** qkv [N, 3·C] → causal attention's output [N, C]. */
function attention(g: Builder, qkv: string, shared: Shared): string {
  const heads = g.op('Transpose', [g.reshape(qkv, [BATCH, SEQ, 3, H, D])], { perm: [2, 0, 3, 1, 4] })
  const [qk, v] = g.split(heads, 0, [2, 1])
  const [q, k] = g.split(rope(g, qk, shared), 0)
  const scores = g.op('MatMul', [q, g.op('Transpose', [k], { perm: [0, 1, 2, 4, 3] })])
  const p = g.op('Softmax', [g.op('Add', [scores, shared.mask])], { axis: 4 })
  const mixed = g.op('Transpose', [g.op('MatMul', [p, v])], { perm: [0, 1, 3, 2, 4] })
  return g.reshape(mixed, [N, C])
}

/** gateUp [N, 2·F] → silu(gate)·up [N, F]. */
function swiglu(g: Builder, gateUp: string): string {
  const [gate, up] = g.split(gateUp, 1)
  return g.op('Mul', [g.op('Mul', [gate, g.op('Sigmoid', [gate])]), up])
}

/**
 * Inputs: `ids` i32 [N]; `labels` i32 [N, 1], 0 where there is none; `row_weights` f32 [N, 1], each row's share of the mean, 0 where it has no label.
 * Output: `loss` f32 [1, 1], the mean cross-entropy.
 */
export function lossModel(weights: Weights): Uint8Array {
  const g = new Builder()
  const shared = sharedConstants(g)
  const { embed_tokens, layers, norm } = weights
  let x = g.op('Gather', [g.f32([V, C], embed_tokens), 'ids'], { axis: 0 })
  for (const layer of layers) {
    const qkv = project(g, rmsNorm(g, x, layer.input_layernorm), layer, 'qkv')
    x = g.op('Add', [x, project(g, attention(g, qkv, shared), layer, 'o')])
    const gateUp = project(g, rmsNorm(g, x, layer.post_attention_layernorm), layer, 'gateUp')
    x = g.op('Add', [x, project(g, swiglu(g, gateUp), layer, 'down')])
  }
  const logits = g.op('MatMul', [rmsNorm(g, x, norm), g.f32([C, V], transposed(embed_tokens, V, C))])
  // LogSoftmax has no WebGPU kernel here. The log of a Softmax is as good where no probability is near 0, as in a model that was not trained yet.
  const picked = g.op('Log', [g.op('GatherElements', [g.op('Softmax', [logits], { axis: 1 }), 'labels'], { axis: 1 })])
  const sum = g.op('ReduceSum', [g.op('Mul', [picked, 'row_weights']), g.i64([0, 1])], { keepdims: 1 })
  g.nodes.push({ op: 'Neg', inputs: [sum], outputs: ['loss'] })
  return onnxModel({
    nodes: g.nodes,
    constants: g.constants,
    inputs: [
      { name: 'ids', type: 'i32', shape: [N] },
      { name: 'labels', type: 'i32', shape: [N, 1] },
      { name: 'row_weights', type: 'f32', shape: [N, 1] },
    ],
    outputs: [{ name: 'loss', type: 'f32', shape: [1, 1] }],
  })
}
