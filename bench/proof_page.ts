/** @file What `npm run proof` writes (bench/results/proof.json), and its section of the results page. Pure. */
import { lineChart } from './charts.ts'
import { measuredText } from './page/head.ts'

export interface Proof {
  readonly machine: string
  readonly adapter: string
  /** Day of the run, and the commit that was run; absent in files from before they were written. */
  readonly date?: string
  readonly commit?: string
  readonly model: string
  readonly data: string
  /** Ran through the studio with exactly these. */
  readonly run: {
    readonly steps: number
    readonly batch: number
    readonly seq: number
    readonly lr: number
    readonly r: number
    readonly alpha: number
  }
  readonly evals: readonly { readonly step: number; readonly loss: number }[]
  /** Median wall time, and bytes as the studio shows them. */
  readonly ms_per_step: number
  readonly allocated: string
  readonly samples: readonly { readonly prompt: string; readonly before: string; readonly after: string }[]
  /** The exported adapter, loaded by PEFT over the dequantised weights in Transformers, float32. Written by test/golden/check_proof.py. */
  readonly peft: {
    readonly versions: Readonly<Record<string, string>>
    readonly prompts: number
    readonly max_logit_difference: number
    readonly largest_logit: number
    readonly tolerance: number
    readonly loss_before: number
    readonly loss_after: number
    readonly loss_tolerance: number
  }
}

/**
 * The same run by PyTorch and PEFT on a CPU, a reference that came with the model's and the data's reference material and is not run again by `npm run proof`:
 * LoRA r = 8, alpha = 16 on all linear layers, AdamW 1e-3, 4 rows a step, the same rows held out and the others in the same order (test/golden/proof_rows.json).
 */
export const PYTORCH = [
  { step: 0, loss: 4.531 },
  { step: 30, loss: 3.707 },
  { step: 60, loss: 3.694 },
  { step: 90, loss: 3.662 },
  { step: 120, loss: 3.645 },
] as const

/** Text in a cell of a Markdown table. */
const cell = (text: string): string =>
  text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/[|<>*_`]/g, '\\$&')

export function proofSection(p: Proof, files: Map<string, string>): string[] {
  const points = (list: readonly { step: number; loss: number }[]) => list.map((e) => [e.step, e.loss] as const)
  const shown = PYTORCH.filter((e) => e.step <= p.run.steps)
  files.set(
    'results/proof.svg',
    lineChart(
      'Held-out loss, nats a token',
      [
        { name: 'PyTorch, CPU', points: points(shown), tone: 4 },
        { name: 'Etude, in the tab', points: points(p.evals), tone: 0 },
      ],
      { label: 'optimizer steps', log: false },
      { label: 'loss', log: false },
    ),
  )
  const { run, peft } = p
  const versions = Object.entries(peft.versions).map(([k, v]) => `${k} ${v}`)
  return [
    '## A real model, tuned in the tab',
    '',
    `${p.model}, ${p.data}: LoRA r = ${run.r}, alpha = ${run.alpha} on all linear layers, AdamW ${run.lr}, ${run.steps} steps of ${run.batch} rows cut at ${run.seq} tokens, in the studio`,
    `(${p.machine}; ${p.adapter}), ${(p.ms_per_step / 1000).toFixed(1)} s a step, ${p.allocated} allocated on the adapter. 64 rows are held out; nothing of them is trained on.${measuredText(p)}`,
    '',
    '![Held-out loss by step](results/proof.svg)',
    '',
    '| steps | Etude | PyTorch |',
    '| --: | --: | --: |',
    ...p.evals.map((e) => `| ${e.step} | ${e.loss.toFixed(3)} | ${shown.find((r) => r.step === e.step)?.loss.toFixed(3) ?? ''} |`),
    '',
    'Etude’s column is measured by `npm run proof`. PyTorch’s is a reference run of PyTorch and PEFT on a CPU (float32, the same weights dequantised, the same settings and rows in the same',
    'order) that came with the reference material of the model and is not repeated here. Each side draws its own first A of the adapter, so that after step 0 the losses are near each',
    'other and not equal; with the same first adapter they agree to 3e-4 ([seven runs, step by step](../README.md#check-the-claims)).',
    '',
    `The exported adapter, loaded by PEFT over the dequantised model (${versions.join(', ')}, float32): on ${peft.prompts} held-out prompts its logits differ from ours by at most`,
    `${peft.max_logit_difference.toExponential(1)} (tolerance ${peft.tolerance}; the largest logit is ${peft.largest_logit.toFixed(1)}), and its held-out loss is ${peft.loss_after.toFixed(4)} (${peft.loss_before.toFixed(4)} without the adapter).`,
    'Here both sides compute with the same adapter and the same 4-bit values: what differs is the order of float32 sums.',
    '',
    'Greedy answers to held-out prompts:',
    '',
    '| prompt | before | after |',
    '| --- | --- | --- |',
    ...p.samples.map((s) => `| ${cell(s.prompt)} | ${cell(s.before)} | ${cell(s.after)} |`),
    '',
    '`npm run proof` repeats it.',
    '',
  ]
}
