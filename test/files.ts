/** @file Files for tests: committed fixtures, and builders of safetensors and GGUF bytes that may lie. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

const GOLDEN = resolve(import.meta.dirname, 'golden')

export const goldenBytes = (name: string): Uint8Array<ArrayBuffer> => Uint8Array.from(readFileSync(resolve(GOLDEN, name)))
export const goldenJson = (name: string): unknown => JSON.parse(readFileSync(resolve(GOLDEN, name), 'utf8'))
export const fromBase64 = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, 'base64'))

/** A safetensors file of any header text, true or not, and `data` bytes. */
export function safetensorsBytes(header: string | object, data = 0, claimed?: bigint): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
  const out = new Uint8Array(8 + json.length + data)
  new DataView(out.buffer).setBigUint64(0, claimed ?? BigInt(json.length), true)
  out.set(json, 8)
  return out
}

/** Little-endian writer with GGUF's primitives. */
export class GgufBuilder {
  private readonly parts: Uint8Array[] = []
  bytes(b: Uint8Array): this {
    this.parts.push(b)
    return this
  }
  u32(v: number): this {
    const b = new Uint8Array(4)
    new DataView(b.buffer).setUint32(0, v, true)
    return this.bytes(b)
  }
  f32(v: number): this {
    const b = new Uint8Array(4)
    new DataView(b.buffer).setFloat32(0, v, true)
    return this.bytes(b)
  }
  u64(v: number | bigint): this {
    const b = new Uint8Array(8)
    new DataView(b.buffer).setBigUint64(0, BigInt(v), true)
    return this.bytes(b)
  }
  text(s: string): this {
    const b = new TextEncoder().encode(s)
    return this.u64(b.length).bytes(b)
  }
  start(tensors: number | bigint, keys: number | bigint, version = 3): this {
    return this.u32(0x46554747).u32(version).u64(tensors).u64(keys)
  }
  tensor(name: string, ne: readonly (number | bigint)[], type: number, offset: number | bigint): this {
    this.text(name).u32(ne.length)
    for (const n of ne) this.u64(n)
    return this.u32(type).u64(offset)
  }
  /** Pads the header to `alignment` and appends `data` zero bytes. */
  end(data = 0, alignment = 32): Uint8Array<ArrayBuffer> {
    const length = this.parts.reduce((n, p) => n + p.length, 0)
    const out = new Uint8Array(Math.ceil(length / alignment) * alignment + data)
    let at = 0
    for (const p of this.parts) {
      out.set(p, at)
      at += p.length
    }
    return out
  }
}
