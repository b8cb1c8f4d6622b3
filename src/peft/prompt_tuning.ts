/** @file Prompt tuning: trained vectors stand before the text, in place of tokens (Lester et al. 2021). */
import { AdapterError } from '../errors.ts'
import { choice, int } from '../options.ts'
import { defineInput } from './method.ts'
import { numberField } from './targets.ts'

const OPTIONS = {
  num_virtual_tokens: int({
    label: 'Virtual tokens',
    help: 'Vectors before the text. They take positions, and do not count in the longest row.',
    default: 20,
    min: 1,
    max: 1024,
  }),
  prompt_tuning_init: choice({
    label: 'Initialisation',
    help: 'SAMPLE_VOCAB: embeddings of random tokens. RANDOM: normal.',
    default: 'SAMPLE_VOCAB',
    choices: ['SAMPLE_VOCAB', 'RANDOM'],
  }),
} as const

/** The input embeddings become [P; E(x)], and only P is trained (https://arxiv.org/abs/2104.08691, section 2). */
export const promptTuning = defineInput<typeof OPTIONS>({
  id: 'prompt-tuning',
  title: 'Prompt tuning',
  summary: 'A few virtual tokens before the text; nothing in the model changes.',
  paper: { cite: 'Lester et al. 2021', url: 'https://arxiv.org/abs/2104.08691' },
  slot: 'input',
  peftType: 'PROMPT_TUNING',
  merges: false,
  options: OPTIONS,
  runDefaults: { lr: 3e-2 },
  rateByWidth: false,
  virtualTokens: (o) => o.num_virtual_tokens,
  initialise: async (o, hidden, vocab, row, uniform) => {
    const out = new Float32Array(o.num_virtual_tokens * hidden)
    if (o.prompt_tuning_init === 'RANDOM') return out.map(() => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()))
    for (let i = 0; i < o.num_virtual_tokens; i++) out.set(await row(Math.floor(uniform() * vocab)), i * hidden)
    return out
  },
  toConfig: (o, { embeddingSize, layers, heads }) => ({
    num_virtual_tokens: o.num_virtual_tokens,
    token_dim: embeddingSize,
    num_transformer_submodules: 1,
    num_attention_heads: heads,
    num_layers: layers,
    prompt_tuning_init: o.prompt_tuning_init,
    prompt_tuning_init_text: null,
    tokenizer_name_or_path: null,
    tokenizer_kwargs: null,
    modules_to_save: null,
  }),
  matches: () => true,
  fromConfig: (config) => {
    const n = numberField(config, 'num_virtual_tokens')
    if (!Number.isInteger(n) || n < 1 || n > OPTIONS.num_virtual_tokens.max)
      throw new AdapterError(`num_virtual_tokens = ${n} is not usable`, {
        where: 'adapter_config.json',
        fix: `Expected a whole number from 1 to ${OPTIONS.num_virtual_tokens.max}`,
      })
    return { num_virtual_tokens: n, prompt_tuning_init: 'RANDOM' }
  },
})
