/** @file docs/results.md and its charts, made from the files of bench/results: figures are never written by hand. Pure: files in, files out. */
import { costPart } from './page/cost.ts'
import { generationPart } from './page/generation.ts'
import { goalsSection } from './page/goals.ts'
import { GLOSSARY, headOf, INTRO } from './page/head.ts'
import { attentionPart, bytesPart } from './page/kernels.ts'
import { memoryPart } from './page/memory.ts'
import { productsPart } from './page/products.ts'
import type { Part, Report } from './page/report.ts'
import { smollm2Part } from './page/smollm2.ts'
import { stepsPart } from './page/steps.ts'
import { proofSection, type Proof } from './proof_page.ts'

export interface Results {
  /** Name of the file without its ending → its content. */
  readonly reports: ReadonlyMap<string, Report>
  readonly proof: Proof | null
}
/** Path under docs/ → content. */
export type Page = ReadonlyMap<string, string>

/** The parts of one report: what it ran on, then what it measured. */
function section(slug: string, report: Report, files: Map<string, string>): string[] {
  const picture: Part['picture'] = (name, alt, content) => {
    if (content === null) return []
    files.set(`results/${slug}-${name}.svg`, content)
    return [`![${alt}](results/${slug}-${name}.svg)`, '']
  }
  const { rows } = report
  const random = rows.find((r) => r.case.startsWith('smollm2-'))?.weights === 'random'
  const parts = [
    ['Beside other libraries', stepsPart],
    [`SmolLM2-135M, LoRA r = 8 on all linear layers${random ? ' (random weights of its shapes)' : ''}`, smollm2Part],
    ['SmolLM2-135M, generation with its 4-bit weights', generationPart],
    ['Matrix products', productsPart],
    ['Attention', attentionPart],
    ['Norms, loss, optimizer', bytesPart],
    ['Memory', memoryPart],
    ['Cost', costPart],
  ] as const
  return [
    ...headOf(report),
    ...parts.flatMap(([title, part]) => {
      const body = part({ report, rows, picture })
      return body.length === 0 ? [] : [`### ${title}`, '', ...body]
    }),
  ]
}

export function resultsPage({ reports, proof }: Results): Page {
  const files = new Map<string, string>()
  const body = [
    ...INTRO,
    ...goalsSection([...reports.values()], proof),
    ...GLOSSARY,
    ...(proof ? proofSection(proof, files) : []),
    ...[...reports].flatMap(([slug, report]) => section(slug, report, files)),
  ]
  files.set('results.md', `${body.join('\n').trimEnd()}\n`)
  return files
}
