/** @file The one way an error looks: what is wrong, where, why it matters, what to do, and a way on. */
import { CircleAlert } from 'lucide-react'
import type { ReactNode } from 'react'
import type { WireError } from '../../errors.ts'

interface Props {
  readonly error: Omit<WireError, 'name' | 'message'>
  /** Buttons that lead on. */
  readonly children?: ReactNode
  readonly tone?: 'bad' | 'warn'
}

export function ErrorCard({ error, children, tone = 'bad' }: Props) {
  return (
    <div className="problem" role="alert" data-testid="error" data-tone={tone}>
      <CircleAlert size={18} aria-hidden />
      <div>
        <strong>{error.what.endsWith('.') ? error.what : `${error.what}.`}</strong>
        <dl>
          {error.where && (
            <>
              <dt>Where</dt>
              <dd className="mono">{error.where}</dd>
            </>
          )}
          {error.why && (
            <>
              <dt>Why</dt>
              <dd>{error.why}</dd>
            </>
          )}
          {error.fix && (
            <>
              <dt>What to do</dt>
              <dd>{error.fix}</dd>
            </>
          )}
        </dl>
        {children !== undefined && (
          <div className="row" style={{ marginTop: 10 }}>
            {children}
          </div>
        )}
      </div>
    </div>
  )
}
