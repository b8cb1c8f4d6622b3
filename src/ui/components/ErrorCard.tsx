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

/** As a sentence: a capital first, a full stop last. File and option names keep their case elsewhere. */
export const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?:]$/.test(text) ? '' : '.'}`

export function ErrorCard({ error, children, tone = 'bad' }: Props) {
  return (
    <div className="problem" role="alert" data-testid="error" data-tone={tone}>
      <CircleAlert size={18} aria-hidden />
      <div>
        <strong>{sentence(error.what)}</strong>
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
              <dd>{sentence(error.why)}</dd>
            </>
          )}
          {error.fix && (
            <>
              <dt>What to do</dt>
              <dd>{sentence(error.fix)}</dd>
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
