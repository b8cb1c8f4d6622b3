/** @file The README.md of an export: what it is, how it was made, how to load it. Front matter as PEFT and the hub read it. */
import type { AnyMethod } from '../peft/method.ts'
import type { Manifest } from './export.ts'

export interface CardFacts {
  readonly kind: 'adapter' | 'model'
  /** Null: every weight was trained. */
  readonly method: AnyMethod | null
  readonly baseModel: string
  readonly manifest: Manifest | null
}

/** Front matter is YAML: a name that came from a file is quoted as JSON, which YAML reads. */
const yaml = (s: string): string => (/^[\w./-]+$/.test(s) ? s : JSON.stringify(s))
const cell = (s: string): string => s.replace(/[|\n\r]/g, ' ')
const number = (v: number): string => String(Number(v.toPrecision(4)))

export function modelCard({ kind, method, baseModel, manifest: m }: CardFacts): string {
  const adapter = kind === 'adapter'
  const peftType = method && method.slot !== 'weights' ? method.peftType : null
  const tags = [...(adapter ? [`base_model:adapter:${baseModel}`] : []), ...(peftType === 'LORA' ? ['lora'] : []), 'transformers', 'etude']
  const title = method ? method.title : 'Full fine-tuning'
  const rows: [string, string][] = m
    ? [
        ['Base model', m.model.name],
        ['Data', `${m.data.name} (${m.data.rows} rows, sha-256 ${m.data.sha256.slice(0, 16)}…)`],
        ['Method', `${title}, ${JSON.stringify(m.config.options)}`],
        ['Steps', String(m.steps.length)],
        ['Batch', `${m.config.run.batch} rows × ${m.config.run.accum}, at most ${m.config.run.seq} tokens each`],
        ['Learning rate', `${m.config.run.lr}, ${m.config.run.schedule}, ${m.config.run.warmup} warm-up steps`],
        ['Seed', String(m.config.run.seed)],
        ['Training loss', m.steps.length > 0 ? `${number(m.steps[0].loss)} → ${number(m.steps.at(-1)!.loss)} nats a token` : 'no step'],
        ...(m.evals.length > 0
          ? [
              ['Held-out loss', `${number(m.evals[0].loss)} → ${number(Math.min(...m.evals.map((e) => e.loss)))} (best)`] as [
                string,
                string,
              ],
            ]
          : []),
        ['Trained on', m.device],
      ]
    : []
  const load = adapter
    ? `from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained("<base model>")\nmodel = PeftModel.from_pretrained(model, "<this folder>")`
    : `from transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained("<this folder>")`
  return [
    '---',
    `library_name: ${adapter ? 'peft' : 'transformers'}`,
    `base_model: ${yaml(baseModel)}`,
    'tags:',
    ...tags.map((t) => `- ${yaml(t)}`),
    'pipeline_tag: text-generation',
    '---',
    '',
    `# ${title} ${adapter ? 'adapter' : 'model'} for ${cell(baseModel)}`,
    '',
    `Trained in a browser tab with Etude. ${method ? `${method.summary} (${method.paper.cite}, ${method.paper.url})` : 'Every weight was trained.'}`,
    '',
    ...(rows.length > 0 ? ['| | |', '|---|---|', ...rows.map(([k, v]) => `| ${k} | ${cell(v)} |`), ''] : []),
    '```python',
    load,
    '```',
    '',
    'It has not been evaluated beyond the losses above. etude_run.json beside this file holds every setting and every step.',
    '',
  ].join('\n')
}
