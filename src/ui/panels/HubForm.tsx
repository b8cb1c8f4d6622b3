/** @file A model by its Hugging Face id: the only thing on the page that uses the network. Cancelled downloads go on where they stopped. */
import { Button, PasswordInput, TextInput } from '@mantine/core'
import { useState } from 'react'
import { chooseHub, setHubToken } from '../actions/model.ts'
import { Card, Disclosure, Tag } from '../components/parts.tsx'
import { useStudio } from '../store/store.ts'
import { Downloads } from './Downloads.tsx'

/** "owner/name" or a bare name of an old repository. */
const REPO = /^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)?$/

/** A hub id from what was pasted: an id or the address of a model page. Pure. */
export function repoOf(text: string): { repo: string; revision: string | null } | null {
  const m = /^(?:https?:\/\/)?(?:huggingface\.co|hf\.co)\/([^/\s]+\/[^/\s]+)(?:\/(?:tree|blob)\/([^/\s]+).*)?\/?$/.exec(text.trim())
  const repo = m?.[1] ?? text.trim()
  return REPO.test(repo) ? { repo, revision: m?.[2] ?? null } : null
}

export function HubForm({ locked }: { locked: boolean }) {
  const stored = useStudio((s) => s.choices.hub)
  const choice = useStudio((s) => s.choices.model)
  const model = useStudio((s) => s.model)
  const downloads = useStudio((s) => s.downloads.list)
  const [text, setText] = useState(stored.repo)
  const [revision, setRevision] = useState(stored.revision)
  const [open, setOpen] = useState(false)
  const parsed = repoOf(text)
  const fetching = model.status === 'loading' && model.pending?.kind === 'hub'
  const begun = downloads.some((d) => d.repo === parsed?.repo && !d.complete)
  const halted = model.status !== 'loading' && model.error === null && begun
  const inUse = choice.kind === 'hub' && choice.repo === parsed?.repo && model.info !== null && model.status === 'ready'
  const fetchIt = (): void => {
    if (parsed) void chooseHub(parsed.repo, parsed.revision ?? (revision.trim() || 'main'))
  }
  return (
    <Card selected={inUse}>
      <form
        className="stack"
        onSubmit={(e) => {
          e.preventDefault()
          fetchIt()
        }}
      >
        <div className="row">
          <h2>From the Hugging Face hub</h2>
          {inUse && <Tag tone="good">in use</Tag>}
        </div>
        <TextInput
          label="Model id"
          placeholder="HuggingFaceTB/SmolLM2-135M-Instruct"
          value={text}
          error={text && !parsed ? 'Expected owner/name, as in the address of the model page.' : undefined}
          onChange={(e) => {
            setText(e.currentTarget.value)
          }}
          data-testid="hub-repo"
        />
        {open && (
          <div className="form">
            <TextInput
              label="Revision"
              value={revision}
              onChange={(e) => {
                setRevision(e.currentTarget.value)
              }}
              data-testid="hub-revision"
            />
            <PasswordInput
              label="Access token"
              description="For gated models. Kept in memory only, sent to the hub alone."
              autoComplete="off"
              onChange={(e) => {
                setHubToken(e.currentTarget.value)
              }}
              data-testid="hub-token"
            />
          </div>
        )}
        <div className="row">
          {fetching ? (
            <Button disabled>Fetching</Button>
          ) : (
            <Button type="submit" disabled={locked || !parsed} data-testid="hub-fetch">
              {halted ? 'Resume the download' : 'Fetch'}
            </Button>
          )}
          <Disclosure
            open={open}
            onToggle={() => {
              setOpen(!open)
            }}
          >
            Revision and token
          </Disclosure>
        </div>
        <p className="small soft">
          {halted
            ? 'What was fetched so far is kept in this browser.'
            : 'The only thing here that uses the network. Files stay in this browser.'}
        </p>
      </form>
      <Downloads pick={setText} />
    </Card>
  )
}
