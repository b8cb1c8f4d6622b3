/** @file Lengths with the cut line, what was checked, and the rows that are set aside. */
import { Anchor, Button } from '@mantine/core'
import { CircleAlert, CircleCheck } from 'lucide-react'
import type { CutStats, DatasetSummary } from '../../data/report.ts'
import { setDataSettings } from '../actions/data.ts'
import { setRunOption } from '../actions/choose.ts'
import { Histogram } from '../charts/Histogram.tsx'
import { Card, Facts } from '../components/parts.tsx'
import { VirtualTable } from '../components/VirtualTable.tsx'
import { count, group, percent, plural } from '../format.ts'
import { useStudio } from '../store/store.ts'

/** What a cut does, in one sentence. Pure. */
export function cutSentence(cut: CutStats): string {
  if (cut.truncated === 0) return `No row is longer than ${group(cut.seq)} tokens: none is cut.`
  const answers =
    cut.answersCut === 0
      ? 'no answer loses a token'
      : `${plural(cut.answersCut, 'answer')} ${cut.answersCut === 1 ? 'loses' : 'lose'} tokens`
  const lost = cut.lost > 0 ? `, ${plural(cut.lost, 'row')} ${cut.lost === 1 ? 'loses its' : 'lose their'} whole answer` : ''
  return `${plural(cut.truncated, 'row')} ${cut.truncated === 1 ? 'is' : 'are'} cut at ${group(cut.seq)} tokens: ${answers}${lost}.`
}

export function LengthCard({ summary }: { summary: DatasetSummary }) {
  const cut = useStudio((s) => s.data.cut) ?? summary.stats.cut
  const { lengths, trainableTokens, totalTokens } = summary.stats
  const better = cut.answersCut > 0 && lengths.suggestedSeq > cut.seq
  return (
    <Card title="Length in tokens">
      <div className="stack" data-testid="lengths">
        <Histogram lengths={lengths} cut={cut} />
        <p className="small">
          {cutSentence(cut)}{' '}
          {better && (
            <Anchor
              component="button"
              type="button"
              fz="inherit"
              onClick={() => {
                setRunOption('seq', lengths.suggestedSeq)
              }}
              data-testid="use-suggested-length"
            >
              Use {group(lengths.suggestedSeq)}: almost none is cut
            </Anchor>
          )}
        </p>
        <Facts
          entries={[
            ['Half of the rows up to', `${group(lengths.p50)} tokens`],
            ['99 % up to', `${group(lengths.p99)} tokens`],
            ['Longest', `${group(lengths.max)} tokens`],
            ['Trained tokens', `${count(trainableTokens)} of ${count(totalTokens)} (${percent(trainableTokens, totalTokens)})`],
          ]}
        />
      </div>
    </Card>
  )
}

export function CheckList({ summary }: { summary: DatasetSummary }) {
  return (
    <Card title="Checked">
      <ul className="checks" data-testid="checks">
        {summary.checks.map((c) => (
          <li key={`${c.id}${c.text}`}>
            {c.ok ? (
              <CircleCheck size={16} color="var(--good)" aria-label="Good:" role="img" />
            ) : (
              <CircleAlert size={16} color="var(--warn)" aria-label="Look at this:" role="img" />
            )}
            <span>{c.text}</span>
          </li>
        ))}
      </ul>
    </Card>
  )
}

const KINDS = { bad: 'cannot be read', empty: 'empty', duplicate: 'duplicate' } as const

export function SetAside({ summary }: { summary: DatasetSummary }) {
  const { stats } = summary
  const dedupe = useStudio((s) => s.choices.dataSettings.dedupe)
  const aside = stats.rows - stats.usable
  return (
    <Card
      title={aside > 0 ? `Set aside: ${plural(aside, 'row')}` : 'Set aside: none'}
      aside={
        <span className="soft small" data-testid="counts">
          {group(stats.rows)} read · {group(stats.usable)} used · {group(stats.bad)} cannot be read · {group(stats.empty)} empty ·{' '}
          {group(stats.duplicates)} duplicates
        </span>
      }
    >
      <div className="stack">
        {stats.duplicates > 0 && (
          <div className="row small">
            <span>
              {plural(stats.duplicates, 'row')} {stats.duplicates === 1 ? 'repeats' : 'repeat'} an earlier one
              {dedupe ? ' and are left out.' : ' and are used again.'}
            </span>
            <Button size="compact-xs" onClick={() => void setDataSettings({ dedupe: !dedupe })} data-testid="dedupe">
              {dedupe ? 'Use them' : 'Leave them out'}
            </Button>
          </div>
        )}
        {stats.setAside.length > 0 ? (
          <>
            <VirtualTable
              label="Rows that are not used"
              testId="bad-rows"
              columns={['Where', 'What', 'Why', 'Starts with']}
              template="minmax(90px, 1fr) 92px minmax(140px, 2fr) minmax(90px, 2fr)"
              rows={stats.setAside.length}
              cells={(i) => {
                const r = stats.setAside[i]
                return r ? [`${r.file}, line ${group(r.line)}`, KINDS[r.kind], r.why, <code key="x">{r.excerpt}</code>] : []
              }}
            />
            {aside > stats.setAside.length && <p className="small soft">The first {group(stats.setAside.length)} are listed.</p>}
            <p className="small soft">The other rows train all the same.</p>
          </>
        ) : (
          <p className="small soft">Every row can be used.</p>
        )}
      </div>
    </Card>
  )
}
