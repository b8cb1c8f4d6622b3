/** @file What was fetched from the hub and is kept in this browser, with what each model takes; one can be deleted. */
import { ActionIcon, Button } from '@mantine/core'
import { Trash2 } from 'lucide-react'
import { useState } from 'react'
import { deleteDownload } from '../actions/downloads.ts'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { Tag } from '../components/parts.tsx'
import { bytes } from '../format.ts'
import { useStudio } from '../store/store.ts'

/** `pick` puts a model's id into the form. */
export function Downloads({ pick }: { readonly pick: (repo: string) => void }) {
  const { list, deleting, error } = useStudio((s) => s.downloads)
  const fetching = useStudio((s) => (s.model.status === 'loading' && s.model.pending?.kind === 'hub' ? s.model.pending.repo : null))
  const inUse = useStudio((s) => (s.model.info !== null && s.choices.model.kind === 'hub' ? s.choices.model.repo : null))
  const [asking, setAsking] = useState<string | null>(null)
  if (list.length === 0 && !error) return null
  return (
    <section className="stack downloads" aria-label="Downloaded models" data-testid="downloads">
      <div className="row">
        <h3>Downloaded models</h3>
        <span className="grow" />
        <span className="soft small">kept in this browser</span>
      </div>
      {error && <ErrorCard error={error} />}
      <ul>
        {list.map(({ repo, bytes: size, complete }) => (
          <li key={repo} data-testid="download-row">
            <div>
              <Button
                variant="transparent"
                size="compact-sm"
                px={0}
                h="auto"
                mih={26}
                aria-label={`Put ${repo} into the form`}
                onClick={() => pick(repo)}
              >
                {repo}
              </Button>
              <span className="row soft small" style={{ gap: 8 }}>
                {bytes(size)} {repo === inUse ? <Tag tone="good">in use</Tag> : !complete && <Tag tone="warn">unfinished</Tag>}
              </span>
            </div>
            {asking === repo ? (
              <span className="row" style={{ gap: 6, flexWrap: 'nowrap' }}>
                <Button
                  size="compact-xs"
                  color="red"
                  variant="filled"
                  onClick={() => {
                    setAsking(null)
                    void deleteDownload(repo)
                  }}
                  data-testid="download-delete-sure"
                >
                  Delete it
                </Button>
                <Button
                  size="compact-xs"
                  onClick={() => {
                    setAsking(null)
                  }}
                >
                  Keep
                </Button>
              </span>
            ) : (
              <ActionIcon
                size="md"
                aria-label={`Delete ${repo}`}
                loading={deleting === repo}
                disabled={deleting !== null || repo === inUse || repo === fetching}
                onClick={() => {
                  setAsking(repo)
                }}
                data-testid="download-delete"
              >
                <Trash2 size={15} aria-hidden />
              </ActionIcon>
            )}
          </li>
        ))}
      </ul>
    </section>
  )
}
