/** @file Step 1: the starter, files, a GGUF or a hub id; what was loaded and what the device allows. */
import { Button } from '@mantine/core'
import { ArrowRight, Check } from 'lucide-react'
import { goTo } from '../actions/choose.ts'
import { cancelModel, chooseModelFiles, chooseStarter } from '../actions/model.ts'
import { Card, PageHead, Tag } from '../components/parts.tsx'
import { Working } from '../components/Working.tsx'
import { DropZone } from '../components/DropZone.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { bytes } from '../format.ts'
import { nameOf } from '../files.ts'
import { isRunning } from '../store/select.ts'
import type { ModelChoice } from '../store/state.ts'
import { useStudio } from '../store/store.ts'
import { DeviceCard } from './DeviceCard.tsx'
import { HubForm } from './HubForm.tsx'
import { ModelFacts } from './ModelFacts.tsx'

export const choiceName = (c: ModelChoice): string =>
  c.kind === 'starter' ? 'the starter model' : c.kind === 'hub' ? c.repo : nameOf(c.names)

export function ModelPanel() {
  const model = useStudio((s) => s.model)
  const choice = useStudio((s) => s.choices.model)
  const ready = useStudio((s) => s.engine.status === 'ready')
  const running = useStudio(isRunning)
  const locked = !ready || running
  const loading = model.status === 'loading'
  const starterOn = choice.kind === 'starter' && model.info !== null
  return (
    <>
      <PageHead
        title="Model"
        actions={
          <Button
            variant="filled"
            rightSection={<ArrowRight size={16} aria-hidden />}
            disabled={!model.info}
            onClick={() => goTo('data')}
            data-testid="next"
          >
            Continue to data
          </Button>
        }
      >
        Start with the small one, or bring your own.
      </PageHead>
      {model.error && (
        <ErrorCard error={model.error}>
          {model.status === 'failed' && (
            <Button size="xs" onClick={() => void chooseStarter()}>
              Use the starter model
            </Button>
          )}
          {model.info && <span className="small soft">{model.info.name} is still loaded.</span>}
        </ErrorCard>
      )}
      {loading && (
        <Card>
          <Working
            label={`Loading ${model.pending ? choiceName(model.pending) : 'the model'}`}
            progress={model.progress}
            onCancel={cancelModel}
          />
        </Card>
      )}
      {running && <p className="note">A run is under way. Pause or stop it to load another model.</p>}
      <div className="two">
        <Card selected={starterOn}>
          <div className="stack" style={{ height: '100%' }}>
            <div className="row">
              <h2>Etude starter</h2>
              <Tag>comes with the page</Tag>
            </div>
            <p className="soft">
              A small Llama of about a million parameters, trained on made-up stories. For seeing a whole run in a minute.
            </p>
            <span className="grow" />
            <div>
              {starterOn && !loading ? (
                <Tag tone="good">
                  <Check size={13} aria-hidden /> in use
                </Tag>
              ) : (
                <Button
                  disabled={locked || (loading && model.pending?.kind === 'starter')}
                  onClick={() => void chooseStarter()}
                  data-testid="use-starter"
                >
                  Use the starter
                </Button>
              )}
            </div>
          </div>
        </Card>
        <HubForm locked={locked} />
      </div>
      <DropZone
        testId="drop-model"
        folder
        pick="Pick files"
        title="Drop a model folder or a .gguf file"
        accept=".safetensors,.json,.gguf,.jinja,.model,.txt"
        disabled={locked}
        onFiles={(f) => void chooseModelFiles(f)}
      >
        config.json, safetensors (one or in shards), tokenizer.json and tokenizer_config.json; or one GGUF. Nothing is uploaded.
        {choice.kind === 'files' && model.info && ` In use: ${nameOf(choice.names)}, ${bytes(choice.bytes)}.`}
      </DropZone>
      {model.info && <ModelFacts info={model.info} />}
      <DeviceCard />
    </>
  )
}
