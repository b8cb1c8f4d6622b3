/** Every registered method against PEFT's values on one layer, forward ≤ 1e-4 absolute, gradients ≤ 1e-3 of their largest magnitude: float32 on both
 * sides, sums of at most 16 products in another order, so a thousandth of that is measured. And that the check sees what is wrong. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { GoldenResult } from '../src/cli/golden_check.ts'
import { goldensCommand } from '../src/cli/golden_command.ts'
import { FileError, OptionError } from '../src/errors.ts'
import { goldens, Recorder, run, scratch, TEST_GPU } from './cli.ts'
import { describeShared } from './shared.ts'

const HERE = ['lora', 'lora_rslora', 'lora_dora', 'lora_pissa', 'lora_olora', 'ia3', 'ia3_ff']

describeShared('the reference file', ['goldens', 'peft_linear.json'], (path) => {
  type Variant = Record<string, Record<string, { shape: number[]; data: number[] }>>
  const read = () => JSON.parse(readFileSync(path, 'utf8')) as Record<string, Variant>

  test('methods that are here agree, the others are named as missing with why', async () => {
    const results = (await goldens(path, '--json')).results as GoldenResult[]
    expect(results.map((r) => r.name)).toEqual(Object.keys(read()))
    const compared = results.flatMap((r) => ('missing' in r ? [] : [r]))
    expect(compared.map((r) => r.name)).toEqual(HERE)
    for (const r of compared) {
      expect(r.forward, r.name).toBeLessThan(1e-5)
      expect(r.gradients, r.name).toBeLessThan(1e-5)
      expect(r.merged, r.name).toBeLessThan(1e-5)
    }
    const why = Object.fromEntries(results.flatMap((r) => ('missing' in r ? [[r.name, r.why]] : [])))
    expect(why.lora_bias).toMatch(/lora_bias = true is not supported/)
    expect(why.lora_mica).toBeTruthy()
    expect(why.vera).toMatch(/VERA/)
  })

  test.each([
    ['y', 'forward', (v: Variant) => v.y.data as unknown as number[]],
    ['one gradient', 'gradients', (v: Variant) => v.grads['base_model.model.lin.lora_B.weight'].data],
    ['the gradient of x', 'gradients', (v: Variant) => v.grad_x.data as unknown as number[]],
    ['a merged weight', 'merged', (v: Variant) => v.merged['lin.weight'].data],
  ] as const)('an error of 0.01 in %s is seen as one', async (_, field, pick) => {
    const { lora } = read()
    pick(lora)[3] += 0.01
    const file = join(scratch(), 'changed.json')
    writeFileSync(file, JSON.stringify({ lora }))
    const out = new Recorder(true)
    const ended = await goldensCommand([file, '--json'], () => out, TEST_GPU).catch((e: unknown) => e)
    const r = out.results[0] as Record<string, number>
    // Gradients here are at most about 15: the error is too small for the command to fail, not to be seen.
    expect(r[field]).toBeGreaterThan(field === 'gradients' ? 6e-4 : 9e-3)
    if (field !== 'gradients') expect((ended as Error).message).toMatch(/lora differ/)
  })

  test('as a process: JSON lines alone on stdout', async () => {
    const { lora } = read()
    const file = join(scratch(), 'one.json')
    writeFileSync(file, JSON.stringify({ lora }))
    const ran = await run('goldens', file, '--json')
    expect([ran.code, Object.keys(JSON.parse(ran.stdout) as object)]).toEqual([0, ['name', 'forward', 'gradients', 'merged']])
  })

  test('without merged weights there is null', async () => {
    const { ia3 } = read()
    const { merged: _, ...rest } = ia3
    const file = join(scratch(), 'unmerged.json')
    writeFileSync(file, JSON.stringify({ ia3: rest }))
    expect((await goldens(file)).results).toMatchObject([{ name: 'ia3', merged: null }])
  })
})

describe('files that are none', () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['not JSON', 'x', /bad\.json/],
    ['no variant', '{}', /no variant/],
    ['a variant without a config', '{"lora": {}}', /bad\.json, lora, config/],
    ['a tensor without values', '{"lora": {"config": {}, "base": {"lin.weight": {"shape": [2]}}}}', /lora, base, lin\.weight/],
    [
      'values that are not those of the shape',
      '{"lora": {"config": {}, "base": {"lin.weight": {"shape": [2, 2], "data": [1]}}}}',
      /1 values are not the numbers of shape \[2, 2\]/,
    ],
  ]
  test.each(cases)('%s', async (_, text, message) => {
    const file = join(scratch(), 'bad.json')
    writeFileSync(file, text)
    const error = await goldens(file).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(FileError)
    expect((error as Error).message).toMatch(message)
  })
  test('arguments', async () => {
    await expect(goldens()).rejects.toThrow(OptionError)
    await expect(goldens('a', 'b')).rejects.toThrow(/got 2 files, expected one/)
    await expect(goldens('a', '--foo')).rejects.toThrow(/no flag --foo/)
    await expect(goldens('/nowhere.json')).rejects.toThrow(/\/nowhere\.json/)
    expect((await goldens('--help')).text).toContain('gradients')
  })
})
