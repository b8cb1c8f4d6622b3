/** @file What the tuned side is: a run of this browser, or an adapter from a zip or folder. */
import { Button, Select } from '@mantine/core'
import { goTo } from '../actions/choose.ts'
import { chooseSource, loadAdapter, sourceOf, startFromAdapter, triable, unloadAdapter } from '../actions/try.ts'
import { DropZone } from '../components/DropZone.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { Card, Tag } from '../components/parts.tsx'
import { Working } from '../components/Working.tsx'
import { count, group } from '../format.ts'
import { isRunning } from '../store/select.ts'
import { dispatch, useStudio } from '../store/store.ts'

export function SourceCard() {
  const state = useStudio((s) => s)
  const { trying, model } = state
  const source = sourceOf(state)
  const runs = triable(state)
  const adapter = source?.kind === 'adapter' ? source : null
  const locked = model.info === null || isRunning(state)
  return (
    <Card title="Tuned by" aside={adapter && <Tag tone="accent">adapter loaded</Tag>}>
      <div className="stack">
        {trying.error && <ErrorCard error={trying.error} />}
        {adapter ? (
          <div className="row">
            <div style={{ flex: '1 1 260px' }} data-testid="adapter-info">
              <b>{adapter.name}</b>
              <span className="soft">
                {' '}
                {adapter.method}, {count(adapter.trainable)} values
              </span>
              {adapter.notes.map((n) => (
                <p className="small soft" key={n}>
                  {n}
                </p>
              ))}
            </div>
            <Button size="xs" onClick={() => void unloadAdapter()} data-testid="unload-adapter">
              Unload
            </Button>
            <Button
              size="xs"
              onClick={() => {
                startFromAdapter(true)
                dispatch({ type: 'run-shown', runId: null })
                goTo('train')
              }}
              data-testid="continue-adapter"
            >
              Continue training from it
            </Button>
          </div>
        ) : (
          runs.length > 0 && (
            <Select
              label="Run"
              data={runs.map((r) => ({ value: r.runId, label: `${r.name}, step ${group(r.live ? r.step : r.checkpointStep)}` }))}
              value={source?.kind === 'run' ? source.runId : null}
              disabled={locked}
              onChange={(runId) => {
                if (runId !== null) chooseSource({ kind: 'run', runId })
              }}
              data-testid="tuned-source"
            />
          )
        )}
        {trying.loading ? (
          <Working label="Loading the adapter" progress={null} />
        ) : (
          <DropZone
            testId="drop-adapter"
            folder
            title="Load an adapter"
            pick="Pick a zip or files"
            accept=".zip,.safetensors,.json"
            disabled={locked}
            onFiles={(files) => void loadAdapter(files)}
          >
            A zip or folder with adapter_config.json and adapter_model.safetensors, from here or from PEFT.
          </DropZone>
        )}
      </div>
    </Card>
  )
}
