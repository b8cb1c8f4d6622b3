/** @file Something under way, with how far it is where that is known and how to call it off. */
import { Button, Progress as Bar } from '@mantine/core'
import { useState } from 'react'
import { bytes, group, percent } from '../format.ts'
import type { Progress } from '../store/state.ts'

const amount = (p: Progress): string => {
  const f = p.unit === 'bytes' ? bytes : group
  return p.total > 0 ? `${f(p.done)} of ${f(p.total)}${p.unit === 'bytes' ? '' : ` ${p.unit}`} (${percent(p.done, p.total)})` : f(p.done)
}

interface Props {
  readonly label: string
  readonly progress: Progress | null
  readonly onCancel?: () => void
}
export function Working({ label, progress, onCancel }: Props) {
  // What is under way may need a moment to come to its end.
  const [cancelled, setCancelled] = useState<string | null>(null)
  const ending = cancelled === label
  const known = progress !== null && progress.total > 0 && !ending
  const value = known ? (100 * progress.done) / progress.total : 100
  const text = ending ? 'Cancelling' : (progress?.label ?? label)
  return (
    <div className="stack" style={{ gap: 6 }} data-testid="progress">
      <div className="row" style={{ flexWrap: 'nowrap' }}>
        <span role="status" style={{ minWidth: 0, overflowWrap: 'anywhere' }}>
          {text}
          {known && <span className="soft"> · {amount(progress)}</span>}
        </span>
        <span className="grow" />
        {onCancel && (
          <Button
            size="xs"
            style={{ flex: 'none' }}
            disabled={ending}
            onClick={() => {
              setCancelled(label)
              onCancel()
            }}
            data-testid="cancel"
          >
            Cancel
          </Button>
        )}
      </div>
      <Bar value={value} animated={!known} striped={!known} size="sm" radius="xl" aria-label={text} />
    </div>
  )
}
