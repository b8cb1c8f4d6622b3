/** @file The prompts that are watched during a run. */
import { Textarea } from '@mantine/core'
import { useState } from 'react'
import { set } from '../actions/choose.ts'
import { promptsOf } from '../store/select.ts'
import { useStudio } from '../store/store.ts'

/** Prompts watched while it learns: one a line. */
export function Prompts() {
  const prompts = useStudio(promptsOf)
  const chosen = useStudio((s) => s.choices.samplePrompts !== null)
  const [draft, setDraft] = useState<string | null>(null)
  return (
    <Textarea
      label="Prompts to watch"
      description={
        chosen ? 'One a line. Asked before, during and after.' : 'From the first rows of the data; change them as you like. One a line.'
      }
      inputWrapperOrder={['label', 'input', 'error', 'description']}
      autosize
      minRows={2}
      maxRows={8}
      value={draft ?? prompts.map(oneLine).join('\n')}
      onChange={(e) => {
        setDraft(e.currentTarget.value)
      }}
      onBlur={() => {
        if (draft === null) return
        const list = draft
          .split('\n')
          .map((l) => l.replaceAll('\\n', '\n'))
          .filter((l) => l.trim() !== '')
        set({ samplePrompts: list })
        setDraft(null)
      }}
      data-testid="sample-prompts"
    />
  )
}

/** A prompt's own line breaks are written \\n, so that one line is one prompt. */
const oneLine = (prompt: string): string => prompt.replaceAll('\n', '\\n')
