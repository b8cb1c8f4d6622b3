/** @file A run's curve as CSV, and a download of it. The CSV has one line a step; evaluations stand on the line of their step. */
import type { EvalRecord } from '../../train/run_config.ts'
import type { PointSeries } from './series.ts'

const HEADER = 'step,loss,loss_smoothed,eval_loss,eval_perplexity,learning_rate,gradient_norm,labelled_tokens,ms'

/** Full precision: it may be read by a program. */
export function csvOf(series: PointSeries, evals: readonly EvalRecord[]): string {
  const byStep = new Map(evals.map((e) => [e.step, e]))
  const smoothed = series.smoothed().slice()
  const lines = [HEADER]
  const before = evals.filter((e) => e.step < (series.at(0)?.step ?? Infinity))
  for (const e of before) lines.push([e.step, '', '', e.loss, e.perplexity, '', '', '', ''].join(','))
  for (let i = 0; i < series.length; i++) {
    const r = series.at(i)
    if (!r) continue
    const e = byStep.get(r.step)
    lines.push([r.step, r.loss, smoothed[i], e?.loss ?? '', e?.perplexity ?? '', r.lr, r.grad_norm, r.tokens, r.ms].join(','))
  }
  return `${lines.join('\n')}\n`
}

/** Offer a blob as a file. */
export function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob)
  const a = document.createElement('a')
  a.href = url
  a.download = name
  a.click()
  setTimeout(() => {
    URL.revokeObjectURL(url)
  }, 10_000)
}
