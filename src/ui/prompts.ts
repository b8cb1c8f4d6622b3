/** @file Prompts worth watching, found in the data: what the first rows ask, without their answers. Pure. */
import type { DatasetSummary, Inspection, PreviewRow } from '../data/report.ts'

const HOW_MANY = 2
/** Plain text has no question: its first words are the prompt. */
const TEXT_TOKENS = 8

/** Up to two prompts: of held-out rows where there are some. For messages the last question of a person; else the exact text before the first trained token. */
export function suggestPrompts(summary: DatasetSummary, preview: readonly PreviewRow[], inspection: readonly Inspection[]): string[] {
  const detection = summary.files[0]?.detection
  const format = detection?.format
  if (format === 'messages' || format === 'sharegpt') {
    const column = detection?.mapping.messages
    return unique((inspection[0]?.sample ?? []).map((row) => (column ? firstQuestion(row[column] ?? '') : '')))
  }
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
