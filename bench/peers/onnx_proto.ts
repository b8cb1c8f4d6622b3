/** @file ONNX models as bytes: the protocol-buffer messages of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3) that a graph needs. */

/** Ids of TensorProto.DataType. */
const TYPES = { f32: 1, i32: 6, i64: 7 } as const
export type OnnxType = keyof typeof TYPES

const UTF8 = new TextEncoder()

function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** @param value a whole number, not negative. */
function base128(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...base128(Math.floor(value / 128))]
}
const f32 = (field: number, value: number): Uint8Array =>
  join([Uint8Array.from(base128((field << 3) | 5)), new Uint8Array(Float32Array.of(value).buffer)])
const varint = (field: number, value: number): Uint8Array => Uint8Array.from([...base128(field << 3), ...base128(value)])
/** A field that has a length: a string, bytes or a message. */
const bytes = (field: number, content: Uint8Array): Uint8Array =>
  join([Uint8Array.from([...base128((field << 3) | 2), ...base128(content.length)]), content])
const text = (field: number, value: string): Uint8Array => bytes(field, UTF8.encode(value))
const message = (field: number, parts: readonly Uint8Array[]): Uint8Array => bytes(field, join(parts))

export interface OnnxValue {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly number[]
}
export interface OnnxTensor extends OnnxValue {
  /** Little-endian values, row-major. */
  readonly data: Float32Array | Int32Array | BigInt64Array
}
export interface OnnxNode {
  /** An operator of the default domain. */
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** Whole numbers, none negative, and lists of them. */
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>
  readonly floats?: Readonly<Record<string, number>>
}
export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[]
  readonly constants: readonly OnnxTensor[]
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
}

/** AttributeProto: name 1, f 2, i 3, ints 8, type 20 (FLOAT 1, INT 2, INTS 7). */
const attribute = ([name, value]: readonly [string, number | readonly number[]]): Uint8Array =>
  message(5, [
    text(1, name),
    ...(typeof value === 'number' ? [varint(3, value), varint(20, 2)] : [...value.map((v) => varint(8, v)), varint(20, 7)]),
  ])

const floatAttribute = ([name, value]: readonly [string, number]): Uint8Array => message(5, [text(1, name), f32(2, value), varint(20, 1)])

/** NodeProto: inputs 1, outputs 2, op_type 4, attributes 5. */
const node = ({ op, inputs, outputs, attributes = {}, floats = {} }: OnnxNode): Uint8Array =>
  message(1, [
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(4, op),
    ...Object.entries(attributes).map(attribute),
    ...Object.entries(floats).map(floatAttribute),
  ])

/** TensorProto: dims 1, data_type 2, name 8, raw_data 9. */
const tensor = ({ name, type, shape, data }: OnnxTensor): Uint8Array =>
  message(5, [
    ...shape.map((d) => varint(1, d)),
    varint(2, TYPES[type]),
    text(8, name),
    bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  ])

/** ValueInfoProto: name 1, type 2 with tensor_type 1 (elem_type 1, shape 2 of dims 1 with dim_value 1). */
const value = (field: number, { name, type, shape }: OnnxValue): Uint8Array => {
  const dims = shape.map((d) => message(1, [varint(1, d)]))
  return message(field, [text(1, name), message(2, [message(1, [varint(1, TYPES[type]), message(2, dims)])])])
}

/** ModelProto of opset 23 (IR version 11): ir_version 1, graph 7 (nodes 1, name 2, initializers 5, inputs 11, outputs 12), opset_import 8 with version 2. */
export function onnxModel({ nodes, constants, inputs, outputs }: OnnxGraph): Uint8Array {
  const graph = [
    ...nodes.map(node),
    text(2, 'bench'),
    ...constants.map(tensor),
    ...inputs.map((v) => value(11, v)),
    ...outputs.map((v) => value(12, v)),
  ]
  return join([varint(1, 11), message(7, graph), message(8, [varint(2, 23)])])
}
