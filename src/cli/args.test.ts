import { describe, expect, test } from 'vitest'
import { OptionError } from '../errors.ts'
import { METHODS } from '../peft/registry.ts'
import { RUN_OPTIONS } from '../train/run_config.ts'
import { parseArgs, parsePairs } from './args.ts'
import { EVAL, GENERATE, LOGITS, TUNE } from './commands.ts'
import { commandHelp, tuneHelp } from './help.ts'
import { parseIds } from './model_commands.ts'
import { readArguments } from './tune_command.ts'

const GIVEN = ['--model', 'm', '--data', 'd', '--out', 'o']
const read = (...argv: string[]) => readArguments(parseArgs(TUNE.flags, [...GIVEN, ...argv]))

describe('flags', () => {
  test("defaults are the contract's", () => {
    const { run, options, method } = read()
    expect(run).toMatchObject({
      base: 'keep',
      schedule: 'constant',
      warmup: 0,
      weight_decay: 0,
      clip: 1,
      accum: 1,
      shuffle: true,
      pack: false,
      seed: 0,
    })
    expect(method!.id).toBe('lora')
    expect(options).toMatchObject({ target_modules: ['all-linear'] })
    expect(read('--method', 'dora').options).toMatchObject({ target_modules: ['all-linear'] })
  })

  test('every run option is a flag, read as its kind', () => {
    const { run } = read(
      '--steps', '20', '--lr', '1e-3', '--schedule', 'cosine', '--warmup', '3', '--batch', '2', '--seq', '96', '--accum', '4', '--optim', 'adamw_8bit',
      '--weight-decay', '0.1', '--clip', '0', '--seed', '7', '--base', 'nf4', '--no-shuffle', '--pack', '--policy', 'lean', '--activation-dtype', 'f16',
    ) // prettier-ignore
    expect(run).toEqual({
      steps: 20, lr: 1e-3, schedule: 'cosine', warmup: 3, batch: 2, seq: 96, accum: 4, optim: 'adamw_8bit',
      weight_decay: 0.1, clip: 0, seed: 7, base: 'nf4', shuffle: false, pack: true, policy: 'lean', activation_dtype: 'f16',
    }) // prettier-ignore
  })

  test('a repeated flag: the last wins; --set adds up, the last of a name wins', () => {
    expect(read('--steps', '5', '--steps', '6', '--no-shuffle', '--shuffle').run).toMatchObject({ steps: 6, shuffle: true })
    expect(read('--set', 'r=4', '--set', 'alpha=8', '--set', 'r=2').options).toMatchObject({ r: 2, alpha: 8 })
    expect(parseArgs(GENERATE.flags, ['--model', 'm', '--prompt', 'p', '--stop', 'a', '--stop', 'b']).list('stop')).toEqual(['a', 'b'])
  })

  test('--flag=value, values that begin with a minus or hold an equals sign, empty texts where they make sense', () => {
    expect(read('--steps=9').run.steps).toBe(9)
    const text = (...argv: string[]) => parseArgs(LOGITS.flags, ['--model', 'm', ...argv]).text('text')
    expect(text('--text', '-1 = x')).toBe('-1 = x')
    expect(text('--text=--help me')).toBe('--help me')
    expect(text('--text', '')).toBe('')
  })

  test("a method's options by their own names, lists and switches included", () => {
    expect(
      read('--set', 'target_modules=q_proj, v_proj', '--set', 'use_rslora=true', '--set', 'loraplus_lr_ratio=16').options,
    ).toMatchObject({
      target_modules: ['q_proj', 'v_proj'],
      use_rslora: true,
      loraplus_lr_ratio: 16,
    })
    for (const m of METHODS.values())
      for (const [name, o] of Object.entries(m.options)) {
        const value = o.kind === 'names' ? o.default.join(',') : String(o.default)
        expect(parsePairs(m.options, new Map([[name, value]]), m.id)).toEqual({ [name]: o.default })
      }
  })
})

/** Arguments, and what the message must say. */
const BAD: readonly (readonly [string, RegExp])[] = [
  ['--foo', /no flag --foo.*--model/],
  ['--no-steps', /no flag --no-steps/],
  ['stray', /"stray" is not a flag/],
  ['--', /"--" is not a flag/],
  ['--steps', /--steps: its value is missing, expected a whole number from 1/],
  ['--steps --json', /--steps: its value is missing/],
  ['--steps 0', /--steps: got 0, expected a whole number from 1/],
  ['--steps -3', /--steps: got -3/],
  ['--steps 1.5', /--steps: got 1\.5, expected a whole number/],
  ['--steps abc', /--steps: got "abc", expected a whole number/],
  ['--steps 0x10', /--steps: got "0x10"/],
  ['--batch 0', /--batch: got 0/],
  ['--seq 1', /--seq: got 1, expected a whole number from 2/],
  ['--accum -1', /--accum: got -1/],
  ['--lr fast', /--lr: got "fast", expected a number/],
  ['--lr -1', /--lr: got -1/],
  ['--lr NaN', /--lr: got "NaN"/],
  ['--weight-decay -0.1', /--weight-decay: got -0\.1/],
  ['--clip x', /--clip: got "x"/],
  ['--warmup -1', /--warmup: got -1/],
  ['--seed 1.5', /--seed: got 1\.5/],
  ['--schedule sine', /--schedule: got "sine", expected one of constant, linear, cosine/],
  ['--dtype q4', /--dtype: got "q4", expected one of f32, f16/],
  ['--base q4', /--base: got "q4", expected one of keep, nf4, q8, f16, f32/],
  ['--json=yes', /--json: got "yes", expected no value/],
  ['--no-shuffle=1', /--no-shuffle: got "1", expected no value/],
  ['--model=', /--model: it is empty, expected <starter\|folder\|file.gguf>/],
  ['--method lola', /no method is named "lola".*lora, dora, ia3, prompt-tuning, full/],
  ['--set r', /--set: got "r", expected <name>=<value>/],
  ['--set =8', /expected <name>=<value>/],
  ['--set r=0', /--set r: got 0, expected a whole number from 1/],
  ['--set r=-2', /--set r: got -2/],
  ['--set r=2.5', /--set r: got 2\.5/],
  ['--set r=eight', /--set r: got "eight"/],
  ['--set alpha=0', /--set alpha: got 0/],
  ['--set dropout=1', /--set dropout: got 1/],
  ['--set rank=8', /no option "rank".*r, alpha/],
  ['--set __proto__=1', /no option "__proto__"/],
  ['--set use_rslora=yes', /--set use_rslora: got "yes", expected true or false/],
  ['--set target_modules=', /target_modules: got ""/],
  ['--set init_lora_weights=eva', /expected one of true, gaussian, pissa, olora/],
  ['--method full --set r=8', /full has no option "r".*no options/],
  ['--method ia3 --set alpha=8', /ia3 has no option "alpha"/],
  ['--method prompt-tuning --set num_virtual_tokens=0', /num_virtual_tokens: got 0/],
  ['--method full --adapter a', /--adapter: full trains the model itself/],
  ['--patience -1', /--patience: got -1/],
]
test.each(BAD)('%s says what was expected', (line, message) => {
  const go = () => read(...line.split(' '))
  expect(go).toThrow(OptionError)
  expect(go).toThrow(message)
})

test.each([
  ['--model', ['--data', 'd', '--out', 'o']],
  ['--data', ['--model', 'm', '--out', 'o']],
  ['--out', ['--model', 'm', '--data', 'd']],
])('%s is required', (flag, argv) => {
  expect(() => parseArgs(TUNE.flags, argv)).toThrow(new RegExp(`${flag}: it is missing, expected ${flag} <`))
})

test.each(['', 'a', '1,,2', '1,-2', '1.5', '1;2', '1,512'])('--ids "%s" is refused', (text) => {
  expect(() => parseIds(text, 512)).toThrow(/--ids: got .*expected token ids from 0 to 511/)
})
test('--ids', () => expect(parseIds('1, 2,511', 512)).toEqual([1, 2, 511]))

describe('help', () => {
  const help = tuneHelp('tune')
  test('names every flag of every command, every run option with its range, every method with every option', () => {
    for (const c of [TUNE, LOGITS, EVAL, GENERATE])
      for (const name of Object.keys(c.flags)) expect(help).toContain(`--${name.replaceAll('_', '-')}`)
    for (const o of Object.values(RUN_OPTIONS)) expect(help.replace(/\s+/g, ' ')).toContain(o.help.slice(0, 40))
    for (const m of METHODS.values()) {
      expect(help).toContain(`${m.id}: ${m.summary}`)
      for (const name of Object.keys(m.options)) expect(help).toContain(`${name} = `)
    }
    expect(help).toContain('Exit codes: 0')
  })
  test('of one command says only its own flags, and lines are short', () => {
    const own = commandHelp(EVAL, 'tune')
    expect(own).toContain('--data')
    expect(own).not.toContain('--prompt')
    for (const line of own.split('\n').slice(4)) expect(line.length).toBeLessThanOrEqual(112)
  })
})
