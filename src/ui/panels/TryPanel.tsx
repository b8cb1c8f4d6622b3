/** @file Step 5: base and tuned side by side, the adapter's strength live, then the export. */
import { Button, Slider, Switch, Textarea } from '@mantine/core'
import { Sparkles, Square } from 'lucide-react'
import { set, goTo } from '../actions/choose.ts'
import { generateBoth, methodOfSource, promptInUse, scaleInUse, setScale, sourceOf, stopGenerating, templateInUse } from '../actions/try.ts'
import { Card, PageHead } from '../components/parts.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { Working } from '../components/Working.tsx'
import { count, duration, sig3 } from '../format.ts'
import type { SideState } from '../store/state.ts'
import { isRunning } from '../store/select.ts'
import { useStudio } from '../store/store.ts'
import { ExportCard } from './ExportCard.tsx'
import { SamplingForm } from './SamplingForm.tsx'
import { SourceCard } from './SourceCard.tsx'

export function TryPanel() {
  const state = useStudio((s) => s)
  const { trying, choices, model } = state
  const source = sourceOf(state)
  const prompt = promptInUse(state)
  const mixes = (methodOfSource(state)?.slot ?? 'linear') === 'linear'
  const scale = scaleInUse(state)
  const working = [trying.base, trying.tuned].some((s) => s.status === 'waiting' || s.status === 'streaming')
  const running = isRunning(state)
  const can = model.info !== null && state.engine.status === 'ready' && prompt.trim() !== '' && !running
  const template = model.info && templateInUse(state)
  return (
    <>
      <PageHead
        title="Try and export"
        actions={
          working ? (
            <Button variant="filled" leftSection={<Square size={14} aria-hidden />} onClick={stopGenerating} data-testid="stop-generating">
              Stop
            </Button>
          ) : (
            <Button
              variant="filled"
              leftSection={<Sparkles size={16} aria-hidden />}
              disabled={!can}
              onClick={() => void generateBoth()}
              data-testid="generate"
            >
              Generate
            </Button>
          )
        }
      >
        The same prompt, before and after.
      </PageHead>
      {running && <p className="note">A run is under way. Pause it to try what it has learned so far.</p>}
      {!model.info && (
        <div className="note row">
          <span>{model.status === 'loading' ? 'The model is loading.' : 'Load a model to try it.'}</span>
          <span className="grow" />
          <Button
            size="xs"
            onClick={() => {
              goTo('model')
            }}
          >
            Go to model
          </Button>
        </div>
      )}
      <Card>
        <div className="stack">
          <Textarea
            label="Prompt"
            autosize
            minRows={2}
            maxRows={10}
            value={prompt}
            onChange={(e) => {
              set({ prompt: e.currentTarget.value })
            }}
            onKeyDown={(e) => {
              if (e.key === 'Enter' && (e.metaKey || e.ctrlKey) && can) void generateBoth()
            }}
            data-testid="prompt"
          />
          {template !== null && (
            <Switch
              label={`As a chat turn, through ${template === model.info?.chatTemplate ? 'the model’s template' : 'the template that the rows are written with'}`}
              checked={choices.chat}
              onChange={(e) => {
                set({ chat: e.currentTarget.checked })
              }}
              data-testid="chat"
            />
          )}
        </div>
      </Card>
      {working && trying.work && (
        <Card>
          <Working label="Loading the weights" progress={trying.work} onCancel={stopGenerating} />
        </Card>
      )}
      <div className="two">
        <Answer title="Base" side={trying.base} testId="base-output" empty="What the untouched model says appears here." />
        <Answer
          title={`Tuned, strength ${scale.toFixed(2)}`}
          side={trying.tuned}
          testId="tuned-output"
          empty={source ? 'What the tuned model says appears here.' : 'Nothing is tuned yet: train a run, or load an adapter below.'}
        >
          <Slider
            min={0}
            max={mixes ? 2 : 1}
            step={mixes ? 0.05 : 1}
            value={scale}
            onChange={setScale}
            disabled={!source || running}
            label={(v) => v.toFixed(2)}
            thumbLabel={mixes ? 'Strength of the adapter, 0 to 2' : 'Tuned off or on: this method has no strength between'}
            marks={(mixes ? [0, 1, 2] : [0, 1]).map((value) => ({ value, label: String(value) }))}
            mb={20}
            data-testid="scale"
          />
        </Answer>
      </div>
      <Card title="How the next token is drawn">
        <SamplingForm />
      </Card>
      <SourceCard />
      <ExportCard />
    </>
  )
}

const ENDS = { eos: 'ended by itself', stop: 'met a stop text', length: 'reached the length', cancelled: 'stopped' } as const

function Answer({
  title,
  side,
  testId,
  empty,
  children,
}: {
  title: string
  side: SideState
  testId: string
  empty: string
  children?: React.ReactNode
}) {
  const waiting = side.status === 'waiting'
  const streaming = side.status === 'streaming'
  return (
    <Card title={title}>
      <div className="stack">
        {side.error ? (
          <ErrorCard error={side.error} />
        ) : (
          <div className="answer" data-testid={testId} data-status={side.status} aria-live="polite" aria-busy={waiting || streaming}>
            {side.text ||
              (waiting ? (
                <span className="soft">waiting</span>
              ) : side.status === 'done' ? (
                <span className="soft">(nothing)</span>
              ) : (
                <span className="soft">{empty}</span>
              ))}
            {streaming && <span className="caret" />}
          </div>
        )}
        <p className="soft small">{side.result ? summary(side.result) : '\u00a0'}</p>
        {children}
      </div>
    </Card>
  )
}

const summary = (r: NonNullable<SideState['result']>): string =>
  `${count(r.tokens)} tokens in ${duration(r.ms)}${r.ms > 0 && r.tokens > 0 ? `, ${sig3((1000 * r.tokens) / r.ms)} tok/s` : ''} · ${ENDS[r.stopped]}`
