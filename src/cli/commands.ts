/** @file What the commands take, declared: parsing and help are made from this, run options and method options from their own declarations. */
import { METHODS } from '../peft/registry.ts'
import { bool, choice, float, int } from '../options.ts'
import { RUN_OPTIONS } from '../train/run_config.ts'
import type { Flags } from './args.ts'

export interface CommandSpec {
  readonly id: string
  readonly summary: string
  /** Without the program's name. */
  readonly usage: string
  readonly flags: Flags
  readonly output: readonly string[]
}

const model = {
  kind: 'text',
  value: '<starter|folder|file.gguf>',
  help: 'The model: the bundled starter, a Hugging Face folder, or a GGUF file; random:<config.json> is random weights of those shapes, drawn from --seed (from 0 where a command has none).',
  required: true,
} as const
const adapter = {
  kind: 'text',
  value: '<folder>',
  help: 'An adapter to put on the model: adapter_config.json says its method and options. Whether it fits is judged by names and shapes.',
} as const
const data = {
  kind: 'text',
  value: '<file>',
  help: 'Rows: JSONL, JSON, CSV, TSV, Parquet or TXT. The format is detected; rows of input_ids (and labels, -100 = not trained) need no tokenizer.',
  required: true,
} as const
const json = { kind: 'switch', help: 'JSON lines on stdout, and nothing else there.' } as const
const { base, batch, seq, seed } = RUN_OPTIONS
/** How --base was called when it had two choices. */
const dtype = choice({ label: 'Frozen weights', help: 'The same as --base f32 or --base f16.', default: 'f32', choices: ['f32', 'f16'] })

/** How --policy checkpoint was called. */
const checkpointing = bool({ label: 'Recompute activations', help: 'The same as --policy checkpoint.', default: false })

const { steps, lr, schedule, warmup, accum, weight_decay, optim, clip, shuffle, pack, policy, activation_dtype } = RUN_OPTIONS
export const TUNE: CommandSpec = {
  id: 'tune',
  summary: 'Fine-tune a model on the GPU.',
  usage: '--model <starter|folder|file.gguf> --data <file> --method <id> --out <folder> [flags]',
  flags: {
    model,
    data,
    out: {
      kind: 'text',
      value: '<folder>',
      help: 'Where the result goes: an adapter as PEFT has it, or a whole model (method full). Made if it is missing.',
      required: true,
    },
    method: { kind: 'text', value: `<${[...METHODS.keys()].join('|')}>`, help: 'What is trained. Default: lora, or that of --adapter.' },
    set: {
      kind: 'pairs',
      help: "An option of the method, by its own name (below). Beside --adapter: what its config cannot hold, as LoRA+'s ratio.",
    },
    adapter: { ...adapter, help: `${adapter.help} Training goes on from it.` },
    steps,
    lr: { ...lr, help: `${lr.help} Default: the method's own (below).` },
    schedule,
    warmup,
    batch,
    seq,
    accum,
    weight_decay,
    optim,
    clip,
    seed,
    base,
    dtype,
    shuffle,
    pack,
    policy,
    activation_dtype,
    checkpointing,
    eval: {
      kind: 'text',
      value: '<file>',
      help: 'Held-out rows: their loss is measured before the first step, every --eval-every steps and after the last.',
    },
    eval_every: int({
      label: 'Evaluate every',
      help: 'Steps between looks at the held-out rows; 0 is only before and after.',
      default: 0,
      min: 0,
      max: 10_000_000,
    }),
    patience: int({
      label: 'Patience',
      help: 'Stop after this many evaluations without a better loss; 0 is never.',
      default: 0,
      min: 0,
      max: 10_000,
    }),
    tune: bool({
      label: 'Measure the GPU',
      help: 'Choose the fastest kernels by measuring them, once for a device and at most 3 s. By default on GPUs, not on software adapters.',
      default: true,
    }),
    keep_best: { kind: 'switch', help: 'End with the values that had the lowest held-out loss.' },
    json,
  },
  output: [
    'With --json, a line for each step: {"step":1,"loss":…,"grad_norm":…,"lr":…,"tokens":…,"ms":…}. loss: mean cross-entropy in nats over the labelled tokens of the step;',
    'grad_norm: before clipping; lr: the base rate used; tokens: labelled ones. With --eval also {"eval":{"step":0,"loss":…,"perplexity":…,"tokens":…}}.',
    'Last line: {"done":true,"planned_bytes":…,"allocated_bytes":…,"dispatches":…,"submits":…}; the last two are those of one step.',
  ],
}

export const PLAN: CommandSpec = {
  id: 'plan',
  summary: 'What a run would take of GPU memory, without reading a weight.',
  usage: 'plan --model <folder|file.gguf|config.json> [--method <id>] [flags]',
  flags: {
    model: { ...model, value: '<starter|folder|file.gguf|config.json>' },
    method: TUNE.flags.method,
    set: TUNE.flags.set,
    batch,
    seq,
    base,
    dtype,
    policy,
    activation_dtype,
    checkpointing,
    optim,
    json,
  },
  output: [
    'With --json: {"planned_bytes":…,"by_class":{"weights":…,"adapter":…,"optimizer":…,"activations":…,"head":…},"policy":…,"dispatches":…,"policies":[…]}.',
    'policy: which was chosen; policies: planned bytes and dispatches a step of each, its arithmetic as a multiple of what fast takes, and of how many blocks checkpoint and lean keep one input. A config.json alone stands for weights of the type it names.',
  ],
}

export const LOGITS: CommandSpec = {
  id: 'logits',
  summary: 'Scores of every token after a text.',
  usage: 'logits --model <…> [--adapter <folder>] --text "…" | --ids 1,2,3 [--json]',
  flags: {
    model,
    adapter,
    text: {
      kind: 'text',
      value: '<text>',
      help: "Tokenised as the model's tokenizer does; special tokens written in it are parsed.",
      mayBeEmpty: true,
    },
    ids: { kind: 'text', value: '<id,id,…>', help: 'Token ids; no tokenizer is needed.' },
    base,
    dtype,
    json,
  },
  output: ['With --json: {"ids":[…],"logits":[…]}, the logits of the last position.'],
}

export const EVAL: CommandSpec = {
  id: 'eval',
  summary: 'Mean loss over every labelled token of a file.',
  usage: 'eval --model <…> [--adapter <folder>] --data <file> [--json]',
  flags: {
    model,
    adapter,
    data,
    batch,
    seq: { ...seq, help: `${seq.help} Default: whole rows, up to the model's context.` },
    base,
    dtype,
    json,
  },
  output: ['With --json: {"loss":…,"perplexity":…,"tokens":…}.'],
}

export const GENERATE: CommandSpec = {
  id: 'generate',
  summary: 'Write on after a prompt.',
  usage: 'generate --model <…> [--adapter <folder>] --prompt "…" [flags]',
  flags: {
    model,
    adapter,
    prompt: { kind: 'text', value: '<text>', help: 'What the model reads first.', required: true, mayBeEmpty: true },
    chat: { kind: 'switch', help: "The prompt is a user's turn, written with the model's chat template." },
    max_tokens: int({ label: 'Longest answer', help: 'Tokens to write at most.', default: 128, min: 1, max: 1_048_576 }),
    temperature: float({ label: 'Temperature', help: '0 takes the likeliest token each time.', default: 0, min: 0, max: 10, step: 0.1 }),
    top_k: int({ label: 'Top k', help: 'Choose among this many; 0 is off.', default: 0, min: 0, max: 1_000_000 }),
    top_p: float({
      label: 'Top p',
      help: 'Choose among the likeliest that together have this probability; 1 is off.',
      default: 1,
      min: 0.001,
      max: 1,
      step: 0.05,
    }),
    seed: { ...seed, help: 'Of the choices.' },
    packed_products: choice({
      label: 'Packed products',
      help: 'Whether new tokens multiply packed weights as whole numbers, with activations rounded to 8 bits; auto: where that was measured to be faster.',
      default: 'auto',
      choices: ['auto', 'on', 'off'],
    }),
    stop: { kind: 'list', value: '<text>', help: 'End when this is written. May be given several times.' },
    base,
    dtype,
    json,
  },
  output: ['The text. With --json: {"text":…,"ids":[…],"stopped":"eos"|"stop"|"length"}; ids are the new tokens.'],
}

export const GOLDENS: CommandSpec = {
  id: 'goldens',
  summary: 'Check every registered method against reference values of PEFT.',
  usage: '<file> [--json]',
  flags: { json },
  output: [
    'For each variant of the file: {"name":"lora","forward":…,"gradients":…,"merged":…}. forward: largest absolute error of the output; gradients: largest error of a gradient,',
    "relative to that gradient's largest magnitude; merged: largest absolute error of the merged weight, or null where the file has none.",
    'A variant without a method here: {"name":…,"missing":true,"why":…}.',
  ],
}
