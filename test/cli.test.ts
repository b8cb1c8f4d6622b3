/** The commands on the bundled starter model: what they write, what they say about bad input, how they end. */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { dispatch } from '../src/cli/dispatch.ts'
import { AdapterError, DataError, FileError, GpuError, ModelError, OptionError, RunError } from '../src/errors.ts'
import { Gpu } from '../src/gpu/device.ts'
import { METHODS } from '../src/peft/registry.ts'
import { Recorder, run, ROOT, scratch, spawned, tune } from './cli.ts'
import { gpu } from './gpu.ts'

const STARTER = join(ROOT, 'public/starter')
interface Step {
  readonly step: number
  readonly loss: number
  readonly grad_norm: number
  readonly lr: number
  readonly tokens: number
}
const steps = (results: readonly unknown[]): Step[] => results.filter((r): r is Step => typeof r === 'object' && r !== null && 'step' in r)

/** Four tokenised rows: all of them are one batch, so a step's loss is the loss of the values before it. */
function tokenRows(folder: string): string {
  const rows = Array.from({ length: 4 }, (_, r) => Array.from({ length: 10 + r }, (_, i) => 20 + ((7 * r + 3 * i) % 40)))
  const path = join(folder, 'rows.jsonl')
  writeFileSync(
    path,
    rows.map((ids) => `${JSON.stringify({ input_ids: ids, labels: ids.map((id, i) => (i < 2 ? -100 : id)) })}\n`).join(''),
  )
  return path
}
function textRows(folder: string): string {
  const path = join(folder, 'data.csv')
  writeFileSync(path, 'prompt,completion\nWho is Tom?,Tom is a dog.\n"Is it big, or small?",It is small.\nWhere?,\n')
  return path
}

describe('tune', () => {
  test('--json: a line for each step, then one for the run; the folder holds the adapter with its card and manifest', async () => {
    const folder = scratch()
    const out = join(folder, 'a/b')
    const ran = await run(
      'tune',
      '--model',
      'starter',
      '--data',
      textRows(folder),
      '--method',
      'lora',
      '--set',
      'r=2',
      '--steps',
      '3',
      '--batch',
      '2',
      '--seq',
      '32',
      '--out',
      out,
      '--json',
    )
    expect([ran.code, ran.stderr.includes('    at ')]).toEqual([0, false])
    const lines = ran.stdout
      .trimEnd()
      .split('\n')
      .map((l) => JSON.parse(l) as Record<string, unknown>)
    expect(lines).toHaveLength(4)
    lines.slice(0, 3).forEach((l, i) => {
      expect(Object.keys(l)).toEqual(['step', 'loss', 'grad_norm', 'lr', 'tokens', 'ms'])
      expect(l.step).toBe(i + 1)
      for (const v of Object.values(l)) expect(v).toBeTypeOf('number')
    })
    const last = lines.at(-1)!
    expect(Object.keys(last)).toEqual(['done', 'planned_bytes', 'allocated_bytes', 'dispatches', 'submits'])
    expect(last.done).toBe(true)
    expect(last.allocated_bytes).toBe(last.planned_bytes)
    expect(last.submits).toBe(1)
    expect(ran.stderr).toContain('1 of 3 rows are not used. The first: data.csv, line 4')
    expect(readdirSync(out).sort()).toEqual(['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'etude_run.json'])
    expect(JSON.parse(readFileSync(join(out, 'adapter_config.json'), 'utf8'))).toMatchObject({ peft_type: 'LORA', r: 2 })
    const manifest = JSON.parse(readFileSync(join(out, 'etude_run.json'), 'utf8')) as {
      steps: Step[]
      config: { method: string; run: { steps: number } }
      data: { rows: number }
    }
    expect(manifest.steps.map((s) => s.loss)).toEqual(lines.slice(0, 3).map((l) => l.loss))
    expect(manifest).toMatchObject({ config: { method: 'lora', run: { steps: 3, batch: 2 } }, data: { rows: 2 } })
  })

  test.each([...METHODS.values()].map((m) => [m.id, m] as const))(
    '%s: what it leaves is what it trained: it is read again, evaluated and trained on',
    async (id, m) => {
      const folder = scratch()
      const data = tokenRows(folder)
      const common = ['--data', data, '--batch', '4', '--seq', '16', '--no-shuffle'] as const
      const out = join(folder, 'out')
      const first = steps((await tune('--model', 'starter', ...common, '--method', id, '--steps', '3', '--out', out)).results)
      expect(first.at(-1)!.loss).toBeLessThan(first[0].loss)
      expect(first[0].lr).toBe(m.runDefaults.lr)
      const from = id === 'full' ? ['--model', out] : ['--model', 'starter', '--adapter', out]
      const { loss, tokens } = (await tune('eval', ...from, '--data', data)).results[0] as Step
      expect(tokens).toBe(first[0].tokens)
      expect(loss).toBeLessThan(first.at(-1)!.loss)
      const second = steps(
        (await tune(...from, ...common, ...(id === 'full' ? ['--method', 'full'] : []), '--steps', '2', '--out', join(folder, 'more')))
          .results,
      )
      // The same values, summed in another order by another program: float32's rounding. A whole model is stored in the source's own type, which may be 16 bits.
      expect(Math.abs(second[0].loss - loss)).toBeLessThan(2e-5)
      expect(second[1].loss).toBeLessThan(second[0].loss)
    },
  )

  test("LoRA+'s ratio goes on beside --adapter, what the config holds does not change, and however its places are named", async () => {
    const folder = scratch()
    const data = tokenRows(folder)
    const out = join(folder, 'out')
    const go = async (...more: string[]) =>
      steps(
        (
          await tune(
            '--model',
            'starter',
            '--data',
            data,
            '--steps',
            '2',
            '--batch',
            '4',
            '--seq',
            '16',
            '--no-shuffle',
            '--lr',
            '1e-2',
            '--out',
            join(folder, 'b'),
            ...more,
          )
        ).results,
      )
    await go('--set', 'r=2', '--set', 'target_modules=q_proj,v_proj', '--out', out)
    const plain = await go('--adapter', out)
    const faster = await go('--adapter', out, '--set', 'loraplus_lr_ratio=16', '--set', 'r=2', '--set', 'target_modules=v_proj,q_proj')
    expect(faster[0].loss).toBe(plain[0].loss)
    expect(faster[1].loss).not.toBe(plain[1].loss)
    await expect(go('--adapter', out, '--set', 'r=4')).rejects.toThrow(/--set r: got 4, and the adapter has 2/)
    await expect(go('--adapter', out, '--set', 'target_modules=all-linear')).rejects.toThrow(OptionError)
    await expect(go('--adapter', out, '--method', 'dora')).rejects.toThrow(/made with lora/)
    await expect(go('--adapter', out, '--set', 'foo=1')).rejects.toThrow(/no option "foo"/)
  })

  test("another base model's name only warns; inference_mode is ignored", async () => {
    const folder = scratch()
    const out = join(folder, 'out')
    await tune('--model', 'starter', '--data', tokenRows(folder), '--steps', '1', '--seq', '16', '--out', out)
    const path = join(out, 'adapter_config.json')
    const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
    expect(config.inference_mode).toBe(true)
    writeFileSync(path, JSON.stringify({ ...config, base_model_name_or_path: 'someone/else' }))
    const { notes, results } = await tune('eval', '--model', 'starter', '--adapter', out, '--data', join(folder, 'rows.jsonl'))
    expect(notes.join()).toContain('someone/else')
    expect(results).toHaveLength(1)
  })

  test('--eval: held-out loss before, when due and after; patience and --keep-best end with the lowest', async () => {
    const folder = scratch()
    const data = tokenRows(folder)
    const held = join(folder, 'held.jsonl')
    writeFileSync(held, `${JSON.stringify({ input_ids: [59, 50, 41, 32, 23, 54, 45, 36] })}\n`)
    const { results, notes } = await tune(
      '--model', 'starter', '--data', data, '--steps', '40', '--seq', '16', '--lr', '0.05', '--eval', held, '--eval-every', '2', '--patience', '2', '--keep-best', '--out', join(folder, 'o'),
    ) // prettier-ignore
    const evals = results.flatMap((r) => (typeof r === 'object' && r !== null && 'eval' in r ? [r.eval as Step] : []))
    expect(evals[0].step).toBe(0)
    expect(steps(results).length).toBeLessThan(40)
    const lowest = Math.min(...evals.map((e) => e.loss))
    expect(notes.join(' ')).toMatch(/no longer falls/)
    const again = (await tune('eval', '--model', 'starter', '--adapter', join(folder, 'o'), '--data', held)).results[0] as Step
    expect(again.loss).toBeCloseTo(lowest, 4)
  })

  test('f16 storage, packing and accumulation run; bytes planned are bytes made, and given back', async () => {
    const before = gpu.allocatedBytes
    const folder = scratch()
    const { results } = await tune(
      '--model',
      'starter',
      '--data',
      tokenRows(folder),
      '--steps',
      '2',
      '--seq',
      '32',
      '--dtype',
      'f16',
      '--pack',
      '--accum',
      '2',
      '--batch',
      '1',
      '--out',
      join(folder, 'o'),
    )
    const done = results.at(-1) as Record<string, number>
    expect(done.allocated_bytes - before).toBe(done.planned_bytes)
    expect(gpu.allocatedBytes).toBe(before)
    expect(done.submits).toBe(2)
  })
})

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

describe('logits, eval and generate', () => {
  test('--text and --ids agree, base and adapter do not', async () => {
    const a = (await tune('logits', '--model', 'starter', '--text', 'Once upon a time')).results[0] as { ids: number[]; logits: number[] }
    const b = (await tune('logits', '--model', 'starter', '--ids', a.ids.join())).results[0] as typeof a
    expect(b).toEqual(a)
    const folder = scratch()
    await tune('--model', 'starter', '--data', tokenRows(folder), '--steps', '2', '--seq', '16', '--lr', '0.01', '--out', join(folder, 'o'))
    const c = (await tune('logits', '--model', 'starter', '--adapter', join(folder, 'o'), '--ids', a.ids.join())).results[0] as typeof a
    expect(c.logits).toHaveLength(a.logits.length)
    expect(Math.max(...c.logits.map((v, i) => Math.abs(v - a.logits[i])))).toBeGreaterThan(0.01)
    await expect(tune('logits', '--model', 'starter', '--ids', '1,99999999')).rejects.toThrow(/expected token ids from 0 to/)
    await expect(tune('logits', '--model', 'starter')).rejects.toThrow(/expected one of --text .* and --ids/)
    await expect(tune('logits', '--model', 'starter', '--text', 'a', '--ids', '1')).rejects.toThrow(OptionError)
  })

  test('generate: greedy is repeatable, a seed chooses, stop texts end it', async () => {
    const go = async (...more: string[]) =>
      (await tune('generate', '--model', 'starter', '--prompt', 'Once upon a time', '--max-tokens', '12', ...more)).results[0] as {
        text: string
        ids: number[]
        stopped: string
      }
    const greedy = await go()
    expect(await go()).toEqual(greedy)
    expect(greedy.ids.length).toBeLessThanOrEqual(12)
    const seven = await go('--temperature', '1.5', '--seed', '7')
    expect(await go('--temperature', '1.5', '--seed', '7')).toEqual(seven)
    expect(await go('--temperature', '1.5', '--seed', '8')).not.toEqual(seven)
    const word = greedy.text.trim().split(' ')[1]
    const stopped = await go('--stop', word)
    expect([stopped.stopped, stopped.text.includes(word)]).toEqual(['stop', false])
  })

  test('rows of ids need no tokenizer, text does', async () => {
    const folder = scratch()
    const bare = join(folder, 'bare')
    cpSync(STARTER, bare, { recursive: true, filter: (p) => !p.includes('tokenizer') })
    const data = tokenRows(folder)
    expect((await tune('eval', '--model', bare, '--data', data)).results).toEqual(
      (await tune('eval', '--model', 'starter', '--data', data)).results,
    )
    expect((await tune('logits', '--model', bare, '--ids', '5,6')).results).toHaveLength(1)
    await expect(tune('logits', '--model', bare, '--text', 'a')).rejects.toThrow(ModelError)
    await expect(tune('--model', bare, '--data', textRows(folder), '--out', join(folder, 'o'))).rejects.toThrow(/data\.csv.*no tokenizer/)
  })

  test('eval reads whole rows unless --seq cuts them', async () => {
    const data = tokenRows(scratch())
    const tokens = async (...more: string[]) =>
      ((await tune('eval', '--model', 'starter', '--data', data, ...more)).results[0] as Step).tokens
    expect(await tokens()).toBe(8 + 9 + 10 + 11)
    expect(await tokens('--seq', '6', '--batch', '3')).toBe(16)
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
