/** @file Prompts worth watching, found in the data: what the first rows ask, without their answers. Pure. */
import type { DatasetSummary, Field, Inspection, Mapping, PreviewRow } from '../data/report.ts'

const HOW_MANY = 2
/** Plain text has no question: its first words are the prompt. */
const TEXT_TOKENS = 8

/**
 * Up to two prompts: of held-out rows where there are some, the exact text before the first trained token. `templated`: a chat template surrounds it, and will
 * again when it is asked, so the columns are read instead; these are shortened for the screen, and shortened ones are left out.
 */
export function suggestPrompts(
  summary: DatasetSummary,
  preview: readonly PreviewRow[],
  inspection: readonly Inspection[],
  templated: boolean,
): string[] {
  const detection = summary.files[0]?.detection
  const format = detection?.format
  const sample = inspection[0]?.sample ?? []
  if (format === 'messages' || format === 'sharegpt') {
    const column = detection?.mapping.messages
    return unique(sample.map((row) => (column ? firstQuestion(row[column] ?? '') : '')))
  }
  if (templated && format === 'instruction') return unique(sample.map((row) => columns(row, detection?.mapping, ['instruction', 'input'])))
  if (templated && format === 'prompt-completion') return unique(sample.map((row) => columns(row, detection?.mapping, ['prompt'])))
  const rows = [...preview].sort((a, b) => Number(b.held) - Number(a.held))
  return unique(
    rows.map((row) => {
      const start = row.tokens.findIndex((t) => t.trained)
      const context = start > 1 ? row.tokens.slice(0, start) : row.tokens.slice(0, format === 'text' ? TEXT_TOKENS : 0)
      return context
        .filter((t) => !t.special)
        .map((t) => t.text)
        .join('')
    }),
  )
}

/** Values of the mapped columns, one a line; '' where one was shortened. */
function columns(row: Readonly<Record<string, string>>, mapping: Mapping | undefined, fields: readonly Field[]): string {
  const values = fields.map((f) => row[mapping?.[f] ?? ''] ?? '').filter(Boolean)
  return values.some((v) => v.endsWith('…')) ? '' : values.join('\n')
}

const unique = (prompts: readonly string[]): string[] =>
  [...new Set(prompts.filter((p) => p.trim() && !p.includes('\ufffd')))].slice(0, HOW_MANY)

/** The first user turn in a column's text; samples are shortened for the screen, so it is read leniently. */
function firstQuestion(text: string): string {
  const m = /"(?:role|from)"\s*:\s*"(?:user|human)"\s*,\s*"(?:content|value)"\s*:\s*("(?:[^"\\]|\\.)*")/.exec(text)
  if (!m?.[1]) return ''
  try {
    const content: unknown = JSON.parse(m[1])
    return typeof content === 'string' ? content : ''
  } catch {
    return ''
  }
}
