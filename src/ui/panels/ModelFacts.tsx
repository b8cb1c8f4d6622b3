/** @file What was loaded: architecture, size, how it is stored, context, and the chat template as it is. */
import { Info } from 'lucide-react'
import { useState } from 'react'
import type { ModelInfo } from '../../worker/protocol.ts'
import { Card, Disclosure, Facts, Tag } from '../components/parts.tsx'
import { bytes, count, group } from '../format.ts'
import { BaseForm } from './BaseForm.tsx'

export function ModelFacts({ info }: { info: ModelInfo }) {
  const [open, setOpen] = useState(false)
  return (
    <Card title={<span data-testid="model-name">{info.name}</span>} aside={<Tag tone="good">loaded</Tag>}>
      <div className="stack" style={{ gap: 16 }} data-testid="model-info">
        <Facts
          wide
          entries={[
            ['Architecture', info.architecture],
            ['Parameters', count(info.parameters)],
            ['Stored as', info.storage],
            ['Size on disk', bytes(info.fileBytes)],
            ['Longest context', `${group(info.context)} tokens`],
            ['Layers × width', `${info.layers} × ${group(info.hiddenSize)}`],
            ['Attention heads', info.heads === info.kvHeads ? group(info.heads) : `${info.heads} over ${info.kvHeads} key/value`],
            ['Vocabulary', group(info.vocabSize)],
            ['Tokenizer', info.tokenizer ? 'yes' : 'none: only tokenised rows'],
            ['Chat template', info.chatTemplate === null ? 'none' : 'yes'],
          ]}
        />
        <div style={{ maxWidth: 420 }}>
          <BaseForm info={info} />
        </div>
        {info.notes.length > 0 && (
          <ul className="checks">
            {info.notes.map((n) => (
              <li key={n}>
                <Info size={15} color="var(--soft)" aria-hidden />
                {n}
              </li>
            ))}
          </ul>
        )}
        {info.chatTemplate !== null && (
          <div>
            <Disclosure
              open={open}
              onToggle={() => {
                setOpen(!open)
              }}
            >
              {open ? 'Hide the chat template' : 'Show the chat template'}
            </Disclosure>
            {open && (
              <pre
                className="answer mono small"
                tabIndex={0}
                aria-label="Chat template"
                style={{ maxHeight: 260, overflow: 'auto', marginTop: 8 }}
              >
                {info.chatTemplate}
              </pre>
            )}
          </div>
        )}
      </div>
    </Card>
  )
}
