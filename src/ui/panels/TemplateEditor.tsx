/** @file Which chat template renders the rows: the model's own, one that is built in, one's own, or none. */
import { Button, Textarea } from '@mantine/core'
import { useState } from 'react'
import { BUILTIN_TEMPLATES } from '../../data/template.ts'
import { setDataSettings } from '../actions/data.ts'
import { useStudio } from '../store/store.ts'

const NAMES: Readonly<Record<keyof typeof BUILTIN_TEMPLATES, string>> = { chatml: 'Use ChatML', plain: 'Use plain lines' }

/** `none`: rows can do without one. */
export function TemplateEditor({ none = true }: { none?: boolean }) {
  const chosen = useStudio((s) => s.choices.dataSettings.template)
  const own = useStudio((s) => s.model.info?.chatTemplate ?? null)
  const [draft, setDraft] = useState<string | null>(null)
  const use = (template: string | null) => () => {
    setDraft(null)
    void setDataSettings({ template })
  }
  return (
    <div className="stack">
      <Textarea
        label="Template (Jinja)"
        description={
          own !== null
            ? 'The model’s own, unless you change it.'
            : none
              ? 'The model has none: prompts and answers are joined as plain text.'
              : 'The model has none: choose how turns are written.'
        }
        autosize
        minRows={3}
        maxRows={12}
        styles={{ input: { fontFamily: 'var(--mono)', fontSize: 12.5 } }}
        value={draft ?? chosen ?? own ?? ''}
        onChange={(e) => {
          setDraft(e.currentTarget.value)
        }}
        data-testid="template"
      />
      <div className="row">
        {draft !== null && (
          <Button size="xs" onClick={use(draft)}>
            Use this template
          </Button>
        )}
        {own === null &&
          Object.entries(BUILTIN_TEMPLATES).map(([id, source]) => (
            <Button key={id} size="xs" disabled={chosen === source} onClick={use(source)} data-testid={`use-${id}`}>
              {NAMES[id as keyof typeof BUILTIN_TEMPLATES]}
            </Button>
          ))}
        {none && (chosen ?? own ?? '') !== '' && (
          <Button size="xs" onClick={use('')}>
            Use none
          </Button>
        )}
        {own !== null && chosen !== null && (
          <Button size="xs" onClick={use(null)}>
            Back to the model’s
          </Button>
        )}
      </div>
    </div>
  )
}
