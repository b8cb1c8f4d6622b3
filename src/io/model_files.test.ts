import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileError } from '../errors.ts'
import { GgufBuilder, goldenBytes } from '../../test/files.ts'
import { describeShared } from '../../test/shared.ts'
import { openModel } from './model_files.ts'
import { readPath } from './node_source.ts'
import { writeSafetensors } from './safetensors_writer.ts'
import { fromBytes } from './sources.ts'

const weights = writeSafetensors([{ name: 'w', type: 'BF16', shape: [2], data: new Uint16Array(2) }])
const good: Readonly<Record<string, string | Uint8Array>> = {
  'config.json': '{"model_type":"llama"}',
  'model.safetensors': weights,
  'tokenizer.json': '{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}',
  'tokenizer_config.json': '{"eos_token":"a","chat_template":"old"}',
  'generation_config.json': '{"temperature":0.6}',
}
const set = (files: Readonly<Record<string, string | Uint8Array>>, folder = '') =>
  new Map(
    Object.entries(files).map(([name, data]) => [
      folder + name,
      fromBytes(name, typeof data === 'string' ? new TextEncoder().encode(data) : data),
    ]),
  )
const without = (...names: string[]) => Object.fromEntries(Object.entries(good).filter(([name]) => !names.includes(name)))

describe('openModel', () => {
  it('opens a folder, whatever its prefix', async () => {
    for (const folder of ['', 'my-model/', 'a/b/']) {
      const m = await openModel(set(good, folder))
      expect(m).toMatchObject({
        kind: 'safetensors',
        config: { model_type: 'llama' },
        generationConfig: { temperature: 0.6 },
        storage: 'BF16',
        fileBytes: weights.length,
        notes: [],
      })
      expect(m.tokenizer?.config).toEqual({ eos_token: 'a', chat_template: 'old' })
      expect(m.name).toBe({ '': 'model', 'my-model/': 'my-model', 'a/b/': 'b' }[folder])
    }
  })
  it('takes the chat template from its own file', async () => {
    expect((await openModel(set({ ...good, 'chat_template.jinja': 'new' }))).tokenizer?.config['chat_template']).toBe('new')
    expect((await openModel(set({ ...good, 'chat_template.json': '{"chat_template":"newer"}' }))).tokenizer?.config['chat_template']).toBe(
      'newer',
    )
  })
  it('does without what is optional, and says what follows', async () => {
    const m = await openModel(set(without('tokenizer.json', 'tokenizer_config.json', 'generation_config.json')))
    expect(m.tokenizer).toBeNull()
    expect(m.generationConfig).toBeNull()
    expect(m.notes.join()).toMatch(/without a tokenizer/)
    expect((await openModel(set({ ...without('tokenizer.json'), 'tokenizer.model': 'x' }))).notes.join()).toMatch(/tokenizer\.model alone/)
  })
  it.each([
    ['nothing', {}, /no files/],
    ['no config', without('config.json'), /config\.json is missing.*layers/],
    ['no weights', without('model.safetensors'), /no \.safetensors file/],
    ['a pickle', { ...without('model.safetensors'), 'pytorch_model.bin': 'x' }, /\.bin can be converted/],
    ['an adapter', { 'adapter_config.json': '{}', 'adapter_model.safetensors': weights }, /adapter, not a model/],
    ['a broken config', { ...good, 'config.json': '{' }, /config\.json.*JSON/],
    ['an empty tokenizer', { ...good, 'tokenizer.json': '' }, /tokenizer\.json.*empty/],
    ['a tokenizer without a model', { ...good, 'tokenizer.json': '{}' }, /tokenizer\.json.*no "model"/],
    ['a file without tensors', { ...good, 'model.safetensors': writeSafetensors([]) }, /no tensors/],
    ['two GGUF files', { 'a.gguf': '', 'b.gguf': '' }, /2 \.gguf files/],
    [
      'a GGUF adapter',
      { 'a.gguf': new GgufBuilder().start(0, 1).text('general.type').u32(8).text('adapter').end() },
      /adapter, not a model/,
    ],
    ['a part of a GGUF', { 'a.gguf': new GgufBuilder().start(0, 1).text('split.count').u32(4).u32(3).end() }, /one of 3 parts/],
    ['a vocabulary', { 'a.gguf': new GgufBuilder().start(0, 0).end() }, /no tensors/],
  ] as [string, Record<string, string | Uint8Array>, RegExp][])('refuses %s', async (_, files, message) => {
    await expect(openModel(set(files))).rejects.toThrow(message)
    await expect(openModel(set(files))).rejects.toThrow(FileError)
  })
  it('opens a GGUF file, with a tokenizer.json beside it', async () => {
    const m = await openModel(set({ 'tiny.gguf': goldenBytes('io/tiny.gguf'), 'tokenizer.json': good['tokenizer.json'] }, 'dir/'))
    expect(m).toMatchObject({ kind: 'gguf', name: 'tiny.gguf', config: null, storage: 'F32 + F16 + Q8_0 + Q4_1' })
    expect(m.gguf?.get('general.architecture')).toBe('llama')
    expect(m.tokenizer?.config).toEqual({})
    expect((await openModel(set({ 'tiny.gguf': goldenBytes('io/tiny.gguf') }))).notes).toHaveLength(1)
  })
  it('reads the divisors of rotary frequencies, and refuses those that it cannot read', async () => {
    const file = (type: number, values: number) =>
      set({
        'x.gguf': new GgufBuilder()
          .start(1, 0)
          .tensor('rope_freqs.weight', [values], type, 0)
          .end(4 * values),
      })
    expect((await openModel(file(0, 3))).gguf?.get('rope_freqs.weight')).toEqual([0, 0, 0])
    for (const [type, values] of [
      [1, 4],
      [0, 1025],
    ] as const) {
      await expect(openModel(file(type, values))).rejects.toThrow(FileError)
      await expect(openModel(file(type, values))).rejects.toThrow(
        /x\.gguf, tensor "rope_freqs\.weight": It has .* expected up to 1024 numbers/,
      )
    }
  })
  it('any mix of files gives a model or a FileError', async () => {
    const names = [...Object.keys(good), 'x.gguf', 'model.safetensors.index.json', 'chat_template.jinja', 'a/config.json']
    const data = fc.oneof(fc.constantFrom(...Object.values(good), goldenBytes('io/tiny.gguf')), fc.json(), fc.uint8Array({ maxLength: 50 }))
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...names), data), async (files) => {
        try {
          await openModel(set(files))
        } catch (e) {
          if (!(e instanceof FileError)) throw e
        }
      }),
      { numRuns: 200 },
    )
  })
})

describeShared('real models', ['models'], (path) => {
  it('stories260K', async () => {
    const m = await openModel(await readPath(`${path}/stories260K`))
    expect(m).toMatchObject({ kind: 'safetensors', storage: 'F32', notes: [] })
    expect(m.tensors.size).toBe(47)
  })
  it('SmolLM2-135M-Instruct', async () => {
    const m = await openModel(await readPath(`${path}/smollm2-135m-instruct`))
    expect(m).toMatchObject({ kind: 'gguf', storage: 'Q4_1 + Q8_0 + F32', fileBytes: 98_362_432 })
    expect(m.tokenizer?.config['chat_template']).toContain('<|im_start|>')
  })
})
