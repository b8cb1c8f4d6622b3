/** @file The exact tokens of one row. Trained ones are blue and underlined, special ones framed, those beyond the cut struck through. */
import { ActionIcon, TextInput } from '@mantine/core'
import { ChevronLeft, ChevronRight } from 'lucide-react'
import { useState } from 'react'
import type { PreviewToken } from '../../data/report.ts'
import { PREVIEW_ROWS, showRows } from '../actions/data.ts'
import { Card, Tag } from '../components/parts.tsx'
import { group } from '../format.ts'
import { useStudio } from '../store/store.ts'

/** White space made visible: a lone newline as its sign and a break, tabs as arrows. */
export const visibleText = (text: string): string => (text === '' ? '∅' : text.replaceAll('\n', '↵\n').replaceAll('\t', '⇥'))

export function RowPreview() {
  const total = useStudio((s) => s.data.summary?.stats.usable ?? 0)
  const preview = useStudio((s) => s.data.preview)
  const first = useStudio((s) => s.data.previewStart)
  const [at, setAt] = useState(0)
  const [wanted, setWanted] = useState<string | null>(null)
  const index = Math.min(at, Math.max(0, total - 1))
  const row = preview[index - first]
  const go = (to: number): void => {
    const next = Math.min(total - 1, Math.max(0, to))
    setAt(next)
    setWanted(null)
    if (next < first || next >= first + preview.length) void showRows(Math.floor(next / PREVIEW_ROWS) * PREVIEW_ROWS)
  }
  const trained = row?.tokens.filter((t) => t.trained && !t.cut).length ?? 0
  const cut = row?.tokens.filter((t) => t.cut).length ?? 0
  return (
    <Card
      title="What the model sees"
      aside={
        <div className="row" style={{ gap: 4 }}>
          <ActionIcon
            aria-label="Previous row"
            disabled={index === 0}
            onClick={() => {
              go(index - 1)
            }}
            data-testid="row-previous"
          >
            <ChevronLeft size={18} aria-hidden />
          </ActionIcon>
          <TextInput
            size="xs"
            w={64}
            inputMode="numeric"
            aria-label={`Row, 1 to ${total}`}
            value={wanted ?? String(index + 1)}
            data-testid="row-number"
            onChange={(e) => {
              setWanted(e.currentTarget.value)
            }}
            onBlur={() => {
              setWanted(null)
            }}
            onKeyDown={(e) => {
              const n = Number(wanted)
              if (e.key === 'Enter' && Number.isInteger(n) && n >= 1) go(n - 1)
            }}
          />
          <span className="soft small">of {group(total)}</span>
          <ActionIcon
            aria-label="Next row"
            disabled={index >= total - 1}
            onClick={() => {
              go(index + 1)
            }}
            data-testid="row-next"
          >
            <ChevronRight size={18} aria-hidden />
          </ActionIcon>
        </div>
      }
    >
      <div className="row small" style={{ marginBottom: 8 }}>
        <span className="tokens" style={{ lineHeight: 1.6 }}>
          <span data-trained>&nbsp;trained&nbsp;</span>
        </span>
        <span>{group(trained)}</span>
        <span className="tokens" style={{ lineHeight: 1.6 }}>
          <span>&nbsp;context&nbsp;</span>
        </span>
        <span>{group((row?.tokens.length ?? 0) - trained - cut)}</span>
        {cut > 0 && (
          <>
            <span className="tokens" style={{ lineHeight: 1.6 }}>
              <span data-cut>&nbsp;cut off&nbsp;</span>
            </span>
            <span>{group(cut)}</span>
          </>
        )}
        <span className="grow" />
        {row && (
          <span className="soft mono">
            {row.file}, line {group(row.line)}
          </span>
        )}
        {row?.held && <Tag tone="warn">held out</Tag>}
      </div>
      <div
        className="tokens"
        data-testid="tokens"
        tabIndex={0}
        role="group"
        aria-label={`Tokens of row ${index + 1}`}
        style={{ maxHeight: 320, overflow: 'auto' }}
      >
        {row?.tokens.map((t, i) => (
          <Token key={i} token={t} />
        ))}
        {row && row.length > row.tokens.length && <span className="soft"> … {group(row.length - row.tokens.length)} more</span>}
      </div>
    </Card>
  )
}

const Token = ({ token: t }: { token: PreviewToken }) => (
  <span
    data-trained={t.trained && !t.cut ? '' : undefined}
    data-special={t.special ? '' : undefined}
    data-cut={t.cut ? '' : undefined}
    title={`id ${t.id}${t.special ? ', special' : ''}${t.cut ? ', cut off' : t.trained ? ', trained' : ', context'}`}
  >
    {visibleText(t.text)}
  </span>
)
