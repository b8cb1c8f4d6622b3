/** The commands on the bundled starter model: what they write and say, and that what they leave is read again. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ModelError, OptionError } from '../src/errors.ts'
import { METHODS } from '../src/peft/registry.ts'
import { methodDefaults } from '../src/train/run_config.ts'
import { run, scratch, STARTER, type Step, textRows, tokenRows, tune } from './cli.ts'
import { gpu } from './gpu.ts'

const WIDTH = (JSON.parse(readFileSync(join(STARTER, 'config.json'), 'utf8')) as { hidden_size: number }).hidden_size
const steps = (results: readonly unknown[]): Step[] => results.filter((r): r is Step => typeof r === 'object' && r !== null && 'step' in r)

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
      expect(first[0].lr).toBeCloseTo(methodDefaults(m, WIDTH).lr, 12)
      const from = id === 'full' ? ['--model', out] : ['--model', 'starter', '--adapter', out]
      const { loss, tokens } = (await tune('eval', ...from, '--data', data)).results[0] as Step
      expect(tokens).toBe(first[0].tokens)
      expect(loss).toBeLessThan(first[0].loss)
      // The moments begin anew, so its first steps are as long as the rate: a small one, to see the loss fall.
      const more = ['--steps', '2', '--lr', String(first[0].lr / 50), '--out', join(folder, 'more')]
      const second = steps((await tune(...from, ...common, ...(id === 'full' ? ['--method', 'full'] : []), ...more)).results)
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
