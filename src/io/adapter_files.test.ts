import { zipSync } from 'fflate'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { describeShared } from '../../test/shared.ts'
import { adapterConfigJson, readAdapter } from './adapter_files.ts'
import { readPath } from './node_source.ts'
import { writeSafetensors } from './safetensors_writer.ts'
import { fromBytes, readAll } from './sources.ts'

const weights = writeSafetensors([{ name: 'base_model.model.x.lora_A.weight', type: 'F32', shape: [1, 2], data: new Float32Array(2) }])
const bytes = (data: string | Uint8Array) => (typeof data === 'string' ? new TextEncoder().encode(data) : data)
const set = (files: Readonly<Record<string, string | Uint8Array>>) =>
  new Map(Object.entries(files).map(([name, data]) => [name, fromBytes(name, bytes(data))]))
const config = '{"peft_type":"LORA","r":8}'

describe('readAdapter', () => {
  it('opens a folder and a zip, with or without a folder in it', async () => {
    const plain = { 'adapter_config.json': config, 'adapter_model.safetensors': weights, 'README.md': '# x' }
    const inFolder = Object.fromEntries(Object.entries(plain).map(([k, v]) => [`run/${k}`, bytes(v)]))
    for (const files of [plain, inFolder, { 'a.zip': zipSync(inFolder) }]) {
      const a = await readAdapter(set(files))
      expect(a.config).toEqual({ peft_type: 'LORA', r: 8 })
      expect([...a.tensors.keys()]).toEqual(['base_model.model.x.lora_A.weight'])
      expect([...a.files.keys()].sort()).toEqual(Object.keys(plain).sort())
    }
  })
  it.each([
    ['nothing', {}, /adapter_config\.json is missing/],
    ['no config', { 'adapter_model.safetensors': weights }, /adapter_config\.json is missing/],
    ['no weights', { 'adapter_config.json': config }, /adapter_model\.safetensors is missing/],
    ['a pickle', { 'adapter_config.json': config, 'adapter_model.bin': 'x' }, /pickle.*run code.*safe_serialization/],
    ['no tensors', { 'adapter_config.json': config, 'adapter_model.safetensors': writeSafetensors([]) }, /no tensors/],
    ['a broken config', { 'adapter_config.json': '{"r":', 'adapter_model.safetensors': weights }, /adapter_config\.json.*JSON/],
    ['broken weights', { 'adapter_config.json': config, 'adapter_model.safetensors': 'x' }, /adapter_model\.safetensors/],
    ['a model', { 'config.json': '{}', 'model.safetensors': weights }, /model, not an adapter/],
    ['a GGUF', { 'a.gguf': 'x' }, /GGUF/],
    ['two adapters', { 'a/adapter_config.json': config, 'b/adapter_config.json': config }, /twice/],
  ] as [string, Record<string, string | Uint8Array>, RegExp][])('refuses %s', async (_, files, message) => {
    await expect(readAdapter(set(files))).rejects.toThrow(message)
    await expect(readAdapter(set(files))).rejects.toThrow(FileError)
  })
})

describe('adapterConfigJson', () => {
  it('is what json.dumps(indent=2, sort_keys=True) writes', () => {
    const text = adapterConfigJson({
      r: 8,
      base_model_name_or_path: 'é/日',
      nested: { b: [1, { z: null, y: true }], a: {} },
      alpha_pattern: [],
    })
    expect(text).toBe(
      '{\n  "alpha_pattern": [],\n  "base_model_name_or_path": "\\u00e9/\\u65e5",\n  "nested": {\n    "a": {},\n    "b": [\n      1,\n      {\n        "y": true,\n        "z": null\n      }\n    ]\n  },\n  "r": 8\n}',
    )
  })
})

describeShared('adapters written by PEFT', ['goldens', 'trajectories'], (path) => {
  it.each(['smollm2-135m-lora/init', 'stories260K-dora/final', 'stories260K-ia3/final', 'stories260K-prompt/final'])(
    '%s',
    async (folder) => {
      const { config, tensors, files } = await readAdapter(await readPath(`${path}/${folder}`))
      expect(typeof config['peft_type']).toBe('string')
      expect(tensors.size).toBeGreaterThan(0)
      const source = files.get('adapter_config.json')
      const stored = source && new TextDecoder().decode(await readAll(source, 1e6))
      // Python writes 0.0 where JavaScript writes 0.
      expect(adapterConfigJson(config)).toBe(stored?.trimEnd().replaceAll(/(\d)\.0(?=[,\n])/g, '$1'))
    },
  )
})
