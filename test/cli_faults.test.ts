/** What the commands do with bad files, with runs that fail, and how their processes end. */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { dispatch } from '../src/cli/dispatch.ts'
import { AdapterError, DataError, FileError, GpuError, type ModelError, RunError } from '../src/errors.ts'
import { Gpu } from '../src/gpu/device.ts'
import { Recorder, ROOT, run, scratch, spawned, STARTER, type Step, TEST_GPU, tokenRows, tune } from './cli.ts'
import { gpu } from './gpu.ts'

describe('a run that fails', () => {
  /** A device of its own, taken away after as many steps. */
  const losing = (steps: number) => {
    let own: Gpu | null = null
    let seen = 0
    const source = { open: async () => (own = await Gpu.request(testGpu)), close: () => own?.destroy() }
    return { source, step: () => ++seen === steps && own?.destroy() }
  }

  test('the GPU goes away: the values copied last are in the folder, with the records up to them', async () => {
    const folder = scratch()
    const { source, step } = losing(105)
    const out = new Recorder(true)
    out.onResult = step
    const argv = [
      '--model',
      'starter',
      '--data',
      tokenRows(folder),
      '--steps',
      '120',
      '--seq',
      '8',
      '--batch',
      '1',
      '--set',
      'r=1',
      '--out',
      join(folder, 'o'),
      '--json',
    ]
    await expect(dispatch(argv, () => out, source)).rejects.toThrow(GpuError)
    expect(out.notes.join()).toContain('The values after step 100 are kept')
    const manifest = JSON.parse(readFileSync(join(folder, 'o/etude_run.json'), 'utf8')) as { steps: Step[] }
    expect(manifest.steps).toHaveLength(100)
    expect(
      (await tune('eval', '--model', 'starter', '--adapter', join(folder, 'o'), '--data', join(folder, 'rows.jsonl'))).results,
    ).toHaveLength(1)
  })

  // Decay of 10 at a rate of 100 multiplies every value by -999 a step.
  test('a step that is not finite names its rows; the values before it are kept', async () => {
    const folder = scratch()
    const go = tune(
      '--model',
      'starter',
      '--data',
      tokenRows(folder),
      '--steps',
      '50',
      '--seq',
      '16',
      '--weight-decay',
      '10',
      '--lr',
      '100',
      '--out',
      join(folder, 'o'),
    )
    const error = await go.catch((e: unknown) => e)
    expect(error).toBeInstanceOf(RunError)
    expect((error as Error).message).toMatch(/step \d+, rows .*not finite/)
    const done = (JSON.parse(readFileSync(join(folder, 'o/etude_run.json'), 'utf8')) as { steps: Step[] }).steps.length
    expect((error as Error).message).toContain(`step ${done + 1},`)
  })
})

describe('a run that is stopped', () => {
  /** Presses Ctrl-C at the first sign of `when`. */
  class Stopping extends Recorder {
    #pressed = false
    constructor(readonly when: 'loading' | 'a step') {
      super(true)
    }
    #press(): void {
      if (!this.#pressed) process.listeners('SIGINT').at(-1)!('SIGINT')
      this.#pressed = true
    }
    override bar(done: number, total: number, text: string): void {
      if (this.when === 'loading' && text.startsWith('loading') && done < total) this.#press()
    }
    override result(value: unknown, text: string): void {
      super.result(value, text)
      if (this.when === 'a step') this.#press()
    }
  }
  const go = async (when: 'loading' | 'a step') => {
    const folder = scratch()
    const out = new Stopping(when)
    const before = gpu.allocatedBytes
    const argv = ['--model', 'starter', '--data', tokenRows(folder), '--steps', '50', '--seq', '16', '--out', join(folder, 'o'), '--json']
    const error = await dispatch(argv, () => out, TEST_GPU).catch((e: unknown) => e)
    expect(gpu.allocatedBytes).toBe(before)
    return { out, error, files: readdirSync(join(folder, 'o')), listeners: process.listenerCount('SIGINT') }
  }
  test('while the model loads: it ends there, and nothing is written', async () => {
    const listeners = process.listenerCount('SIGINT')
    const ended = await go('loading')
    expect(ended.error).toBeInstanceOf(RunError)
    expect((ended.error as Error).message).toMatch(/stopped before the first step.*nothing was written/i)
    expect([ended.files, ended.out.results, ended.out.notes.filter((n) => n.includes('kept'))]).toEqual([[], [], []])
    expect(ended.listeners).toBe(listeners)
  })
  test('after a step: what is trained is kept', async () => {
    const { out, error, files } = await go('a step')
    expect(error).toBeUndefined()
    expect(out.notes.join()).toContain('what is trained is kept')
    expect(files).toContain('adapter_model.safetensors')
    expect(out.results.length).toBeLessThan(10)
  })
})

describe('bad files', () => {
  const cases: readonly (readonly [
    string,
    (folder: string) => string[],
    typeof FileError | typeof ModelError | typeof DataError,
    RegExp,
  ])[] = [
    ['no such model', () => ['--model', '/nowhere/model', '--data', 'x'], FileError, /\/nowhere\/model: There is no such/],
    ['no such data', () => ['--model', 'starter', '--data', '/nowhere/data.jsonl'], FileError, /\/nowhere\/data\.jsonl: There is no such/],
    ['data that is no data', () => ['--model', 'starter', '--data', join(STARTER, 'model.safetensors')], DataError, /model\.safetensors/],
    ['no such adapter', (f) => ['--model', 'starter', '--data', tokenRows(f), '--adapter', '/nowhere/a'], FileError, /\/nowhere\/a/],
    ['a model as adapter', (f) => ['--model', 'starter', '--data', tokenRows(f), '--adapter', STARTER], FileError, /not an adapter/],
    [
      'truncated weights',
      (f) => {
        cpSync(STARTER, join(f, 'm'), { recursive: true })
        const path = join(f, 'm/model.safetensors')
        writeFileSync(path, readFileSync(path).subarray(0, 100_000))
        return ['--model', join(f, 'm'), '--data', tokenRows(f)]
      },
      FileError,
      /model\.safetensors/,
    ],
    [
      'an empty tokenizer',
      (f) => {
        cpSync(STARTER, join(f, 'm'), { recursive: true })
        writeFileSync(join(f, 'm/tokenizer.json'), '')
        return ['--model', join(f, 'm'), '--data', tokenRows(f)]
      },
      FileError,
      /tokenizer\.json/,
    ],
    [
      'a file where the result should go',
      (f) => ['--model', 'starter', '--data', tokenRows(f), '--out', join(f, 'rows.jsonl')],
      FileError,
      /rows\.jsonl/,
    ],
    [
      'ids beyond the vocabulary',
      (f) => {
        writeFileSync(join(f, 'far.jsonl'), '{"input_ids": [1, 99999999, 3]}\n')
        return ['--model', 'starter', '--data', join(f, 'far.jsonl')]
      },
      DataError,
      /far\.jsonl, line 1.*99999999/,
    ],
  ]
  test.each(cases)('%s', async (_, argv, kind, message) => {
    const folder = scratch()
    const given = argv(folder)
    const go = () => tune(...(given.includes('--out') ? [] : ['--out', join(folder, 'o')]), ...given, '--steps', '1', '--seq', '16')
    const error = await go().catch((e: unknown) => e)
    expect(error).toBeInstanceOf(kind)
    expect((error as Error).message).toMatch(message)
  })

  test("an adapter of another model's shape names the tensor", async () => {
    const folder = scratch()
    const data = tokenRows(folder)
    const out = join(folder, 'o')
    await tune('--model', 'starter', '--data', data, '--steps', '1', '--seq', '16', '--out', out)
    const path = join(out, 'adapter_config.json')
    writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as object), r: 3 }))
    await expect(tune('eval', '--model', 'starter', '--adapter', out, '--data', data)).rejects.toThrow(AdapterError)
    await expect(tune('eval', '--model', 'starter', '--adapter', out, '--data', data)).rejects.toThrow(/lora_A.*shape/)
  })
})

describe('as processes', () => {
  test('exit codes: 2 and what was expected for arguments, 1 and the file for files, nothing on stdout, no stack trace', async () => {
    const [args, file] = await Promise.all([
      run('tune', '--steps', '0'),
      run('tune', '--model', '/nowhere', '--data', 'x', '--out', join(scratch(), 'o')),
    ])
    expect([args.code, args.stdout]).toEqual([2, ''])
    expect(args.stderr).toMatch(/--steps: got 0, expected a whole number from 1 .*\n.*--help/)
    expect([file.code, file.stdout]).toEqual([1, ''])
    expect(file.stderr).toContain('/nowhere')
    for (const { stderr } of [args, file]) expect(stderr).not.toMatch(/^\s+at /m)
  })

  test('npm run tune -- --help, and a driver that is not there', async () => {
    const [help, driver] = await Promise.all([
      spawned('npm', ['run', '--silent', 'tune', '--', '--help']),
      spawned(process.execPath, ['scripts/run.mjs', 'src/cli/tune.ts', 'logits', '--model', 'starter', '--ids', '5'], {
        VK_ICD_FILENAMES: '/nowhere/icd.json',
      }),
    ])
    expect(help.code).toBe(0)
    expect(help.stdout).toMatch(/^Fine-tune a model/)
    expect([driver.code, driver.stdout]).toEqual([1, ''])
    expect(driver.stderr).toContain('VK_ICD_FILENAMES')
  })

  test('text for people: generate streams to stdout', async () => {
    const ran = await run('tune', 'generate', '--model', 'starter', '--prompt', 'Once upon a time', '--max-tokens', '5')
    expect(ran.code).toBe(0)
    expect(ran.stdout.trim().length).toBeGreaterThan(3)
    expect(existsSync(join(ROOT, 'adapter_model.safetensors'))).toBe(false)
  })
})
