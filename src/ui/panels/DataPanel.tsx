/** @file Step 2: the data as read, why it was read so, what is set aside, and the exact tokens the model will see. */
import { Button } from '@mantine/core'
import { ArrowRight, Check } from 'lucide-react'
import type { Format } from '../../data/report.ts'
import { goTo } from '../actions/choose.ts'
import { cancelData, chooseDataFiles, chooseSample } from '../actions/data.ts'
import { Card, PageHead, Tag } from '../components/parts.tsx'
import { Working } from '../components/Working.tsx'
import { DropZone } from '../components/DropZone.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { bytes, count, plural } from '../format.ts'
import { nameOf } from '../files.ts'
import { SAMPLES } from '../samples.ts'
import { isRunning } from '../store/select.ts'
import { useStudio } from '../store/store.ts'
import { CheckList, LengthCard, SetAside } from './DataChecks.tsx'
import { FormatCard } from './FormatCard.tsx'
import { RowPreview } from './RowPreview.tsx'
import { SplitCard } from './SplitCard.tsx'
import { TemplateEditor } from './TemplateEditor.tsx'

const CHATS: ReadonlySet<Format | undefined> = new Set<Format>(['messages', 'sharegpt'])
const ACCEPT = '.jsonl,.ndjson,.json,.csv,.tsv,.parquet,.txt,.md'

export function DataPanel() {
  const data = useStudio((s) => s.data)
  const choice = useStudio((s) => s.choices.data)
  const model = useStudio((s) => s.model)
  const chosen = useStudio((s) => s.choices.dataSettings.format)
  const running = useStudio(isRunning)
  const p = data.progress
  const { summary } = data
  // conversations that could not be read: how they are written is the first thing to look at
  const untemplated = data.status === 'failed' && !summary && data.inspection.some((i) => CHATS.has(chosen ?? i.detection?.format))
  return (
    <>
      <PageHead
        title="Data"
        actions={
          <Button
            variant="filled"
            rightSection={<ArrowRight size={16} aria-hidden />}
            disabled={!summary || summary.stats.train === 0}
            onClick={() => goTo('method')}
            data-testid="next"
          >
            Use this data
          </Button>
        }
      >
        This is exactly what the model will see. Nothing is uploaded.
      </PageHead>
      <DropZone
        testId="drop-data"
        accept={ACCEPT}
        disabled={running}
        title={choice.kind === 'files' ? `${nameOf(choice.names)} · ${bytes(choice.bytes)}` : 'Drop a data file'}
        onFiles={(f) => void chooseDataFiles(f)}
      >
        JSONL, JSON, CSV, TSV, Parquet or TXT. {choice.kind === 'files' ? 'Drop another file to replace it.' : ''}
      </DropZone>
      <section className="card" style={{ paddingBlock: 10 }} aria-label="Data sets that come with the page">
        {SAMPLES.map((sample, i) => (
          <div className="row" key={sample.id} style={{ paddingBlock: 4, minHeight: 38 }}>
            <div style={{ flex: '1 1 240px' }}>
              <b>{sample.title}</b> <span className="soft">{sample.summary}</span>
            </div>
            {choice.kind === 'sample' && choice.id === sample.id ? (
              <Tag tone="good">
                <Check size={13} aria-hidden /> in use
              </Tag>
            ) : (
              <Button
                size="xs"
                disabled={running}
                onClick={() => void chooseSample(sample.id)}
                data-testid={i === 0 ? 'use-sample' : `use-sample-${sample.id}`}
              >
                Use it
              </Button>
            )}
          </div>
        ))}
      </section>
      {data.error && (
        <ErrorCard error={data.error}>
          {summary && <span className="small soft">{summary.name} is still in use.</span>}
          {!summary && choice.kind === 'files' && (
            <Button size="xs" onClick={() => void chooseSample()}>
              Use the sample
            </Button>
          )}
        </ErrorCard>
      )}
      {data.status === 'reading' && (
        <Card>
          <Working
            label="Reading the data"
            progress={
              p && {
                label: p.rows > 0 ? `${p.label} · ${plural(p.rows, 'row')}, ${count(p.tokens)} tokens` : p.label,
                done: p.done,
                total: p.total,
                unit: 'bytes',
              }
            }
            onCancel={cancelData}
          />
        </Card>
      )}
      {data.status === 'idle' && data.inspection.length > 0 && (
        <p className="note">
          {model.status === 'loading'
            ? 'Waiting for the model: its tokenizer makes the tokens.'
            : 'Load a model to see the tokens: its tokenizer makes them.'}
        </p>
      )}
      {data.status === 'cancelled' && <p className="note">Reading was cancelled. Drop the file again to read it.</p>}
      {data.inspection.length > 0 && <FormatCard />}
      {untemplated && (
        <Card title="Chat template">
          <TemplateEditor none={false} />
        </Card>
      )}
      {summary && (
        <>
          {summary.stats.usable > 0 && <RowPreview />}
          <div className="two">
            <LengthCard summary={summary} />
            <div className="stack" style={{ gap: 16 }}>
              <CheckList summary={summary} />
              <SplitCard />
            </div>
          </div>
          <SetAside summary={summary} />
        </>
      )}
    </>
  )
}
